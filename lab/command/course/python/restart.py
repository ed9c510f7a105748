#!/usr/bin/env python3
"""A plugin for Core Lightning, on pyln-client."""

import json
import os

from pyln.client import Plugin

# Preimages are secrets: what it creates is its owner's alone.
os.umask(0o077)

plugin = Plugin()
plugin.add_option("events-file", "myplugin.txt", "Where notifications are written.")
count = 0


@plugin.init()
def on_init(options, configuration, plugin):
    how = "with the node" if configuration["startup"] else "by hand"
    plugin.log(f"started {how}")


def record(topic, params):
    global count
    # Before v23.08 the payload is not under the topic's name.
    payload = params.get(topic, params)
    with open(plugin.get_option("events-file"), "a") as file:
        count += 1
        file.write(f"{topic} notification: {json.dumps(payload)}\n")


@plugin.subscribe("connect")
def on_connect(plugin, **params):
    record("connect", params)


@plugin.subscribe("disconnect")
def on_disconnect(plugin, **params):
    record("disconnect", params)


@plugin.subscribe("invoice_creation")
def on_invoice_creation(plugin, **params):
    record("invoice_creation", params)
    label = params["invoice_creation"]["label"]
    if label.startswith("burnt"):
        raise ValueError(f"{label} is burnt")


@plugin.method("eventcount")
def eventcount(plugin):
    """How many notifications were written since the plugin started."""
    return {"count": count}


plugin.run()
