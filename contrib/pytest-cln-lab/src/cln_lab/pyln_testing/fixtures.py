"""``pyln.testing.fixtures``, on top of a lab."""

from __future__ import annotations

import json  # noqa: F401  (tests take these from here with `import *`)
import logging
import os
import re
import shutil  # noqa: F401
import string  # noqa: F401
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import time  # noqa: F401
from concurrent import futures
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from pyln.client import Millisatoshi  # noqa: F401

from .. import plugin as cln_lab_plugin
from ..serve import Server
from .bitcoind import OPTIONS, BitcoinD, ElementsD
from .db import SqliteDbProvider
from .factory import NodeFactory
from .node import LightningNode
from .settings import (  # noqa: F401
    DEPRECATED_APIS,
    SLOW_MACHINE,
    TEST_DEBUG,
    TEST_NETWORK,
    VALGRIND,
    check,
    env,
)

network_daemons = {"regtest": BitcoinD, "liquid-regtest": ElementsD}
providers = {"sqlite3": SqliteDbProvider}


@pytest.fixture(autouse=True)
def setup_logging() -> Iterator[None]:
    """Logs to standard output with ``TEST_DEBUG=1``."""
    if TEST_DEBUG:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    yield


@pytest.fixture
def directory(lab_server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """The test's folder, that of its lab. It stays if the test fails."""
    check()
    lab = lab_server.up(bitcoind=list(OPTIONS.items()), gates=False)
    cln_lab_plugin.watch(request.node, lab)
    yield str(lab)
    if getattr(request.node, "has_errors", False):
        request.node.stash[cln_lab_plugin.FAILED] = True
    cln_lab_plugin.end(lab_server, request.node, lab)


@pytest.fixture
def test_base_dir(directory: str) -> str:
    """Where tests have their folders."""
    return os.path.dirname(directory)


@pytest.fixture
def test_name(request: pytest.FixtureRequest) -> str:
    """The name of the test's function."""
    name: str = request.function.__name__
    return name


@pytest.fixture
def node_cls() -> Any:
    """The class of a node."""
    return LightningNode


@pytest.fixture
def bitcoind(directory: str, teardown_checks: Any) -> Iterator[BitcoinD]:
    """The lab's bitcoind, with coins to spend."""
    bitcoind = network_daemons[env("TEST_NETWORK", "regtest")](bitcoin_dir=directory)
    yield bitcoind
    for proxy in bitcoind.proxies:
        proxy.stop()


class TeardownErrors:
    """What is wrong at the end, collected so that everything is cleaned up before it is raised."""

    def __init__(self) -> None:
        self.errors: List[str] = []
        self.node_errors: List[Tuple[str, str]] = []

    def add_error(self, msg: str) -> None:
        """Adds one."""
        self.errors.append(msg)

    def add_node_error(self, node: LightningNode, msg: str) -> None:
        """Adds one of a node."""
        self.node_errors.append((node.daemon.prefix, msg))

    def __str__(self) -> str:
        of_nodes = [f" - {name}: {msg}" for name, msg in self.node_errors]
        of_all = [f" - {msg}" for msg in self.errors]
        return "\n".join(["\nNode errors:", *of_nodes, "Global errors:", *of_all])

    def has_errors(self) -> bool:
        """Whether there is one."""
        return bool(self.errors or self.node_errors)


@pytest.fixture
def teardown_checks(request: pytest.FixtureRequest) -> Iterator[TeardownErrors]:
    """Fails the test at its end for what other fixtures have added."""
    errors = TeardownErrors()
    yield errors
    if errors.has_errors():
        request.node.has_errors = True
        raise ValueError(str(errors))


@pytest.fixture
def jsonschemas() -> Dict[str, Any]:
    """None: those are for lightningd's own tests."""
    return {}


@pytest.fixture
def db_provider(directory: str) -> SqliteDbProvider:
    """Gives each node its database."""
    return SqliteDbProvider(directory)


@pytest.fixture
def executor(teardown_checks: TeardownErrors) -> Iterator[futures.ThreadPoolExecutor]:
    """Threads for what a test does at the same time."""
    pool = futures.ThreadPoolExecutor(max_workers=20)
    yield pool
    pool.shutdown(wait=False)


@pytest.fixture
def chainparams() -> Dict[str, Any]:
    """Regtest's; ``example_addr`` is nobody's."""
    return {
        "bip173_prefix": "bcrt",
        "elements": False,
        "name": "regtest",
        "p2sh_prefix": "2",
        "example_addr": "bcrt1qeyyk6sl5pr49ycpqyckvmttus5ttj25pd0zpvg",
        "feeoutput": False,
        "chain_hash": "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f",
    }


@pytest.fixture
def node_factory(
    lab_server: Server,
    directory: str,
    test_name: str,
    bitcoind: BitcoinD,
    executor: Any,
    db_provider: SqliteDbProvider,
    teardown_checks: TeardownErrors,
    node_cls: Any,
    jsonschemas: Any,
) -> Iterator[NodeFactory]:
    """Makes the test's nodes; at its end they are looked at for what must not go wrong."""
    factory = NodeFactory(
        test_name,
        bitcoind,
        executor,
        directory,
        db_provider,
        node_cls,
        jsonschemas,
        lab_server.node or "",
    )
    yield factory
    _, errors = factory.killall([not node.may_fail for node in factory.nodes])
    for error in errors:
        teardown_checks.add_error(error)
    for node in factory.nodes:
        for found in troubles(node):
            teardown_checks.add_node_error(node, found)


def troubles(node: LightningNode) -> List[str]:
    """What went wrong on a node, as pyln-testing sees it, unless the test allows it."""
    node.daemon.logs_catchup()
    logs = node.daemon.logs
    found = []

    def lines(regex: str, but: str = "") -> List[str]:
        expression, excused = re.compile(regex), re.compile(but) if but else None
        return [
            line
            for line in logs
            if expression.search(line) and not (excused and excused.search(line))
        ]

    def add(there: Any, what: str) -> None:
        if there:
            shown = (
                "".join(f"\n     {line}" for line in there[:5]) if isinstance(there, list) else ""
            )
            found.append(what + shown)

    if not node.may_fail:
        add(
            [str(p) for p in Path(node.daemon.lightning_dir).glob("**/crash.log*")],
            "had crash.log files",
        )
    broken = lines(r"\*\*BROKEN\*\*|That's weird: ", node.broken_log or "")
    add(broken, "had BROKEN or That's weird messages")
    add(not node.allow_warning and lines(" WARNING:"), "had warning messages")
    add(not node.may_reconnect and lines("Peer has reconnected"), "had unexpected reconnections")
    if not node.allow_bad_gossip:
        # After a channel is deleted, a node_announcement may come late.
        late = [] if lines("Deleting channel") else lines("Bad gossip order:")
        add(late or lines(r"gossipd.*Bad (?!gossip order)"), "had bad gossip messages")
    add(lines("Bad reestablish"), "had bad reestablish")
    add(lines("bad hsm request"), "had bad hsm requests")
    add(lines("Accessing a null column"), "Accessing a null column")
    if node.rc != 0 and not node.may_fail:
        found.append(f"Node exited with return code {node.rc}")
    return found
