"""Core Lightning nodes on regtest, for tests with pytest.

``pytest -p cln_lab``, or ``CLN_LAB=1``, runs tests that are written for pyln-testing. New
ones use the fixture ``lab``, a :class:`Lab`.
"""

from __future__ import annotations

from ._version import __version__
from .bitcoin import Bitcoind, BitcoinRpc, JSONRPCError
from .harness import PluginHarness
from .lab import Lab, Node
from .log import Log
from .serve import Failed, LabError, Refused
from .tap import InlinePlugin, Notification, Tap
from .wait import TimedOut, wait_for

__all__ = [
    "Bitcoind",
    "BitcoinRpc",
    "Failed",
    "InlinePlugin",
    "JSONRPCError",
    "Lab",
    "LabError",
    "Log",
    "Node",
    "Notification",
    "PluginHarness",
    "Refused",
    "Tap",
    "TimedOut",
    "__version__",
    "wait_for",
]

pytest_plugins = ["cln_lab.plugin"]


def pytest_addoption() -> None:
    """Called where this is a plugin of pytest, ``-p cln_lab``, and before any test file."""
    from . import shim

    shim.install()
