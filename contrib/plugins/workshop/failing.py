#!/usr/bin/env python3
from pyln.client import Plugin

plugin = Plugin()


@plugin.subscribe("connect")
def on_connect(plugin, **params):
    1 + "foo"


plugin.run()
