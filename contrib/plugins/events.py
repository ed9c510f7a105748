#!/usr/bin/env python3
"""Appends a line to a file for each connect, disconnect and invoice_creation.

    pip install pyln-client
    lab up --plugin contrib/plugins/events.py,events-file=/tmp/events.txt

The line is `TOPIC notification: PAYLOAD`, the payload as JSON. A relative file is
relative to the node's network directory.
"""

import json

from pyln.client import Plugin

plugin = Plugin()
plugin.add_option("events-file", "events.txt", "File to append a line to for each event.")


def record(topic, params):
    # lightningd before v23.08 sends the payload itself, later ones under the topic.
    payload = params.get(topic, params)
    with open(plugin.get_option("events-file"), "a", encoding="utf-8") as events:
        events.write(f"{topic} notification: {json.dumps(payload)}\n")


@plugin.subscribe("connect")
def on_connect(plugin, **params):
    record("connect", params)


@plugin.subscribe("disconnect")
def on_disconnect(plugin, **params):
    record("disconnect", params)


@plugin.subscribe("invoice_creation")
def on_invoice_creation(plugin, **params):
    record("invoice_creation", params)


plugin.run()
