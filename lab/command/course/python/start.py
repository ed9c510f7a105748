#!/usr/bin/env python3
"""A plugin for Core Lightning, to be."""

import json
import sys

# A request comes on stdin, one message a line.
