#!/usr/bin/env python3
"""A plugin for Core Lightning: it writes down each connection."""

import json
import sys

MANIFEST = {
    "dynamic": True,
    "options": [],
    "rpcmethods": [],
    "subscriptions": ["connect"],
}


def answer(request, result):
    response = {"jsonrpc": "2.0", "id": request["id"], "result": result}
    sys.stdout.write(json.dumps(response) + "\n\n")
    sys.stdout.flush()


def record(message):
    with open("myplugin.txt", "a") as file:
        file.write(f"{message['method']} notification: {json.dumps(message)}\n")


for line in sys.stdin:
    if not line.strip():
        continue
    message = json.loads(line)
    if message["method"] == "getmanifest":
        answer(message, MANIFEST)
    elif message["method"] == "init":
        answer(message, {})
    elif message["method"] == "connect":
        record(message)
