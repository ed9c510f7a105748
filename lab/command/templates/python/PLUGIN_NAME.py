#!/usr/bin/env python3
"""Greets each peer that connects, in the node's log, and counts them."""

from pyln.client import Plugin

plugin = Plugin()
plugin.add_option(
    "PLUGIN_NAME-greeting", "hello", "What to log before the id of each peer that connects"
)
plugin.connections = 0


@plugin.method("PLUGIN_NAME-count")
def count(plugin):
    """How many peers have connected."""
    return {"connections": plugin.connections}


@plugin.subscribe("connect")
def on_connect(plugin, **params):
    # Before v23.08 the payload is `params` itself.
    payload = params.get("connect", params)
    plugin.connections += 1
    plugin.log(f"{plugin.get_option('PLUGIN_NAME-greeting')} {payload['id']}")


plugin.run()
