"""What pyln-testing reads from the environment."""

from __future__ import annotations

import os
from typing import Any


def env(name: str, default: Any = None) -> Any:
    """A variable of the environment, else of ``config.vars`` in the present folder."""
    if name in os.environ:
        return os.environ[name]
    try:
        with open("config.vars") as file:
            pairs = dict(line.rstrip().split("=", 1) for line in file if "=" in line)
    except FileNotFoundError:
        pairs = {}
    return pairs.get(name, default)


VALGRIND = env("VALGRIND") == "1"
TEST_NETWORK = env("TEST_NETWORK", "regtest")
TEST_DEBUG = env("TEST_DEBUG", "0") == "1"
SLOW_MACHINE = env("SLOW_MACHINE", "0") == "1"
DEPRECATED_APIS = env("DEPRECATED_APIS", "0") == "1"
EXPERIMENTAL_DUAL_FUND = env("EXPERIMENTAL_DUAL_FUND", "0") == "1"
GENERATE_EXAMPLES = env("GENERATE_EXAMPLES", "0") == "1"
RUST = env("RUST", "0") == "1"
#: Of old releases: whether lightningd has its developer options, as every node here.
DEVELOPER = True

__all__ = [name for name in dir() if name.isupper()] + ["env"]

_REFUSED = {
    "VALGRIND=1": (
        VALGRIND,
        "nodes run as they are; use pyln-testing for memory errors of lightningd",
    ),
    f"TEST_NETWORK={TEST_NETWORK}": (TEST_NETWORK != "regtest", "a lab is on regtest"),
    "TEST_DB_PROVIDER": (
        env("TEST_DB_PROVIDER", "sqlite3") != "sqlite3",
        "a node has SQLite; for a Postgres of yours set the option `wallet` of a node",
    ),
    "CLN_TEST_GRPC=1": (env("CLN_TEST_GRPC") == "1", "nodes are asked over their JSON-RPC socket"),
}


def check() -> None:
    """Refuses what cannot be had.

    :raises ValueError: with the setting and the reason.
    """
    for setting, (is_set, why) in _REFUSED.items():
        if is_set:
            raise ValueError(f"{setting} is not to be had with cln_lab: {why}")
