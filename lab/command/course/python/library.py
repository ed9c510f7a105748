#!/usr/bin/env python3
"""A plugin for Core Lightning, on pyln-client."""

import json

from pyln.client import Plugin

plugin = Plugin()


def record(topic, params):
    # Before v23.08 the payload is not under the topic's name.
    payload = params.get(topic, params)
    with open("myplugin.txt", "a") as file:
        file.write(f"{topic} notification: {json.dumps(payload)}\n")


@plugin.subscribe("connect")
def on_connect(plugin, **params):
    record("connect", params)


@plugin.subscribe("disconnect")
def on_disconnect(plugin, **params):
    record("disconnect", params)


plugin.run()
