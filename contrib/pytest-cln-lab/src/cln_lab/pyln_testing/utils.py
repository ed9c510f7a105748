"""``pyln.testing.utils``: its constants and helpers, and its classes on top of a lab."""

from __future__ import annotations

import logging
import os
import subprocess
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path

from pyln.client import LightningRpc, Millisatoshi, NodeVersion, RpcError

from ..bitcoin import BitcoinRpcProxy, JSONRPCError
from ..wait import TIMEOUT, wait_for
from .bitcoind import (
    BITCOIND_CONFIG,
    BitcoinD,
    ElementsD,
    SimpleBitcoinProxy,
    write_config,
)
from .factory import NodeFactory
from .helpers import (
    drop_unused_port,
    get_tx_p2wsh_outnum,
    mine_funding_to_announce,
    only_one,
    reserve_unused_port,
    scid_to_int,
    sync_blockheight,
    wait_channel_quiescent,
)
from .lightningd import (
    LIGHTNINGD_CONFIG,
    LightningD,
    PrettyPrintingLightningRpc,
    Unavailable,
)
from .node import FUNDAMOUNT, LightningNode
from .process import TailableProc
from .settings import (
    DEPRECATED_APIS,
    DEVELOPER,
    EXPERIMENTAL_DUAL_FUND,
    GENERATE_EXAMPLES,
    RUST,
    SLOW_MACHINE,
    TEST_DEBUG,
    TEST_NETWORK,
    VALGRIND,
    env,
)

__all__ = [
    "BITCOIND_CONFIG",
    "BitcoinD",
    "BitcoinRpcProxy",
    "DEPRECATED_APIS",
    "DEVELOPER",
    "Decimal",
    "EXPERIMENTAL_DUAL_FUND",
    "ElementsD",
    "FUNDAMOUNT",
    "GENERATE_EXAMPLES",
    "JSONRPCError",
    "LIGHTNINGD_CONFIG",
    "LightningD",
    "LightningNode",
    "LightningRpc",
    "Millisatoshi",
    "NodeFactory",
    "NodeVersion",
    "OrderedDict",
    "Path",
    "PrettyPrintingLightningRpc",
    "RUST",
    "RpcError",
    "SLOW_MACHINE",
    "SimpleBitcoinProxy",
    "TEST_DEBUG",
    "TEST_NETWORK",
    "TIMEOUT",
    "TailableProc",
    "Unavailable",
    "VALGRIND",
    "drop_unused_port",
    "env",
    "get_tx_p2wsh_outnum",
    "logging",
    "mine_funding_to_announce",
    "only_one",
    "os",
    "reserve_unused_port",
    "scid_to_int",
    "subprocess",
    "sync_blockheight",
    "wait_channel_quiescent",
    "wait_for",
    "write_config",
]
