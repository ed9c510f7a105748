#!/usr/bin/env python3
"""A plugin for Core Lightning, on pyln-client."""

import json
import os
import sys

from pyln.client import Millisatoshi, Plugin

# Preimages are secrets: what it creates is its owner's alone.
os.umask(0o077)

plugin = Plugin()
plugin.add_option("events-file", "myplugin.txt", "Where notifications are written.")
count = 0
number = 0
plugin.add_notification_topic("counted")


@plugin.init()
def on_init(options, configuration, plugin):
    how = "with the node" if configuration["startup"] else "by hand"
    plugin.log(f"started {how}")
    # Continue after the last line that was written whole.
    global number
    if os.path.exists(plugin.get_option("events-file")):
        with open(plugin.get_option("events-file")) as file:
            for line in file:
                number = int(line.split(" ")[0])


def record(topic, params):
    global count, number
    # Before v23.08 the payload is not under the topic's name.
    payload = params.get(topic, params)
    with open(plugin.get_option("events-file"), "a") as file:
        count += 1
        number += 1
        file.write(f"{number} {topic} notification: {json.dumps(payload)}\n")


@plugin.subscribe("*")
def on_any(plugin, request, **params):
    topic = request.method
    if topic == "shutdown":
        sys.exit(0)
    record(topic, params)
    if topic == "invoice_creation":
        plugin.notify("counted", {"count": count})
    label = params.get(topic, {}).get("label", "")
    if label.startswith("burnt"):
        raise ValueError(f"{label} is burnt")


@plugin.hook("invoice_payment")
def on_invoice_payment(plugin, payment, **params):
    # Before v23.11 a text, "1000msat"; since then a number.
    msat = int(Millisatoshi(payment["msat"]))
    if payment["label"].startswith("no-") or msat < 1000:
        return {"result": "reject"}
    return {"result": "continue"}


@plugin.method("eventcount")
def eventcount(plugin):
    """How many notifications were written since the plugin started."""
    return {"count": count}


plugin.run()
