"""Run with ``pytest -p cln_lab``."""

from __future__ import annotations

from pathlib import Path

import pytest

from cln_lab.serve import Server

PLUGIN = '''#!/usr/bin/env python3
"""Counts connections."""
import os
from pyln.client import Plugin

plugin = Plugin()
plugin.add_option("greeting", "hello", "What it says.")
seen = []

@plugin.init()
def init(options, configuration, plugin):
    plugin.log(f"greets with {options['greeting']}, A={os.environ.get('A')}")

@plugin.subscribe("connect")
def connect(plugin, connect, **kwargs):
    seen.append(connect["id"])
    plugin.log(f"saw {connect['id']}")

@plugin.method("seen")
def seen_ids(plugin):
    """The peers."""
    return {"ids": seen}

@plugin.method("die")
def die(plugin):
    """Ends the plugin."""
    os._exit(3)

plugin.run()
'''


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    """A plugin."""
    path = tmp_path / "counter.py"
    path.write_text(PLUGIN)
    path.chmod(0o700)
    return path


@pytest.fixture
def lightningd(lab_server: Server) -> None:
    """For tests of what the embedded node does not do."""
    if not (lab_server.node or "").startswith("lightningd"):
        pytest.skip(f"nodes are {lab_server.node}")
