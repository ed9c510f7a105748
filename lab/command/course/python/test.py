#!/usr/bin/env python3
"""Does the plugin count a connection? Exit status 0 if it does."""

import json
import os
import subprocess
import sys
import time


def lab(*words):
    run = subprocess.run([os.environ["LAB"], *words], check=True, capture_output=True)
    return run.stdout


def count():
    return json.loads(lab("cli", "l1", "eventcount"))["count"]


lab("cli", "l1", "plugin", "start", os.environ["PLUGIN"])
before = count()
lab("connect", "1", "2")
# A notification may come after the answer: look until it is there, not longer.
deadline = time.monotonic() + 1
while count() == before:
    if time.monotonic() > deadline:
        sys.exit("the connection was not counted")
