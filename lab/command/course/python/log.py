#!/usr/bin/env python3
"""A plugin for Core Lightning: it speaks through the log of the node."""

import json
import sys

MANIFEST = {
    "dynamic": True,
    "options": [],
    "rpcmethods": [],
    "subscriptions": ["connect", "disconnect"],
}


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n\n")
    sys.stdout.flush()


def answer(request, result):
    send({"id": request["id"], "result": result})


def refuse(request):
    text = f"no method {request['method']} here"
    send({"id": request["id"], "error": {"code": -32601, "message": text}})


def log(text, level="info"):
    send({"method": "log", "params": {"level": level, "message": text}})


def record(message):
    with open("myplugin.txt", "a") as file:
        file.write(f"{message['method']} notification: {json.dumps(message)}\n")


def messages():
    """Each message on stdin: an empty line ends it."""
    text = ""
    for line in sys.stdin:
        text += line
        if line == "\n":
            if text.strip():
                yield json.loads(text)
            text = ""


for message in messages():
    if message["method"] == "getmanifest":
        answer(message, MANIFEST)
    elif message["method"] == "init":
        answer(message, {})
    elif message["method"] in MANIFEST["subscriptions"]:
        record(message)
        log(f"recorded {message['method']}")
    elif "id" in message:
        refuse(message)
