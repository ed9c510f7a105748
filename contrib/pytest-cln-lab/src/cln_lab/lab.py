"""The fixture ``lab``: bitcoind and Core Lightning nodes, in the words of the Rust library."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from pyln.client import LightningRpc, Plugin

from .bitcoin import Bitcoind
from .log import Log
from .serve import Option, Server, ask, changed, node_in
from .tap import InlinePlugin, Tap, inline, tap
from .wait import TIMEOUT, wait_for

#: The capacity of a channel by default, in satoshi.
CHANNEL_SAT = 1_000_000

#: Blocks over a channel until nodes announce it (BOLT 7).
ANNOUNCED = 6

Options = Mapping[str, Any]


def option_lines(options: Options) -> List[Option]:
    """Options as lightningd takes them: ``None`` is a flag, a list gives one more than once."""
    lines: List[Option] = []
    for name, value in options.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        lines += [(name, None if one is None else _text(one)) for one in values]
    return lines


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def plugin_spec(plugin: Union[str, Path, Tuple[Union[str, Path], Options]]) -> Dict[str, Any]:
    """A plugin to start with a node: a path, or a path and its options."""
    path, options = plugin if isinstance(plugin, tuple) else (plugin, {})
    lines = [(name, "true" if value is None else value) for name, value in option_lines(options)]
    return {"path": str(Path(path).absolute()), "options": lines}


class Node:
    """A node of a lab. It may be down: see :meth:`stop` and :meth:`start`."""

    def __init__(self, lab: Union[str, Path], name: str, bitcoind: Bitcoind) -> None:
        #: The lab's folder.
        self.lab = Path(lab)
        #: ``l1``, ``l2``, …, unless it was given another.
        self.name = name
        self.bitcoind = bitcoind
        #: Its ``--lightning-dir``.
        self.dir = self.lab / name
        #: Its network directory, where plugins run.
        self.network_dir = self.dir / "regtest"
        #: Its methods, of pyln-client: ``rpc.getinfo()``.
        self.rpc = LightningRpc(str(self.network_dir / "lightning-rpc"))
        #: Its log.
        self.log = Log(self.dir / "log")

    def __repr__(self) -> str:
        return f"<Node {self.name} in {self.dir}>"

    @property
    def id(self) -> str:
        """Its node id; empty before its first start."""
        node_id: str = node_in(self.lab, self.name)["id"]
        return node_id

    @property
    def port(self) -> int:
        """The port on which peers reach it, on 127.0.0.1."""
        port: int = node_in(self.lab, self.name)["port"]
        return port

    @property
    def pid(self) -> Optional[int]:
        """Its process id; ``None`` while it is down."""
        pid: Optional[int] = node_in(self.lab, self.name)["pid"]
        return pid

    def start(self) -> None:
        """Starts it again, and waits until it is ready."""
        ask(self.lab, "start", node=self.name)

    def stop(self) -> int:
        """Stops it, and waits until nothing of it is left; its exit code, as ``subprocess`` has it."""
        return os.waitstatus_to_exitcode(ask(self.lab, "stop", node=self.name))

    def restart(self) -> None:
        """Stops it, and starts it again."""
        self.stop()
        self.start()

    def kill9(self) -> int:
        """Kills it and everything it started, as a power cut would; its exit code."""
        return os.waitstatus_to_exitcode(ask(self.lab, "kill9", node=self.name))

    def ended(self, within: float = TIMEOUT) -> int:
        """Waits until it ends by itself; its exit code."""
        return os.waitstatus_to_exitcode(ask(self.lab, "wait", node=self.name, seconds=within))

    def reconfigure(
        self,
        options: Options = {},
        plugins: Sequence[Union[str, Path, Tuple[Union[str, Path], Options]]] = (),
        env: Mapping[str, str] = {},
    ) -> None:
        """Replaces its options, plugins and environment, from its next start on."""
        spec = {
            "options": option_lines(options),
            "plugins": [plugin_spec(plugin) for plugin in plugins],
            "env": list({**changed(os.environ), **env}.items()),
        }
        ask(self.lab, "configure", node=self.name, spec=spec)

    def plugin_start(self, path: Union[str, Path], **options: Any) -> None:
        """Starts a plugin, with options named with ``_`` for ``-``."""
        named = {name.replace("_", "-"): value for name, value in options.items()}
        path = str(Path(path).absolute())
        self.rpc.call("plugin", {"subcommand": "start", "plugin": path, **named})

    def plugin_stop(self, path: Union[str, Path]) -> None:
        """Stops a plugin."""
        self.rpc.call("plugin", {"subcommand": "stop", "plugin": str(Path(path).absolute())})

    def inline_plugin(self, plugin: Plugin, name: str = "inline.py") -> InlinePlugin:
        """Attaches a plugin that runs in this process: its functions see what the test sees."""
        return inline(self.rpc, self.dir / "inline", plugin, name)

    def tap(self, *topics: str) -> Tap:
        """Records from now on what lightningd sends to plugins: these topics, or all (from v23.08 on)."""
        return tap(self.rpc, self.dir / "inline", topics or ("*",))

    def connect(self, peer: Node) -> None:
        """Connects to another node, and waits until both know."""
        self.rpc.connect(peer.id, "127.0.0.1", peer.port)
        wait_for(lambda: self.is_connected(peer) and peer.is_connected(self), what="the connection")

    def disconnect(self, peer: Node) -> None:
        """Ends the connection, and waits until both know."""
        self.rpc.disconnect(peer.id, force=True)
        gone = lambda: not self.is_connected(peer) and not peer.is_connected(self)  # noqa: E731
        wait_for(gone, what="the end of the connection")

    def is_connected(self, peer: Node) -> bool:
        """Whether it is connected to that node."""
        peers = self.rpc.listpeers(peer.id)["peers"]
        return any(one["connected"] for one in peers)

    def wait_height(self, height: int) -> None:
        """Waits until it has seen this block."""
        seen = lambda: self.rpc.getinfo()["blockheight"] >= height  # noqa: E731
        wait_for(seen, what=f"{self.name} to see block {height}")

    def fund(self, sat: int) -> str:
        """Sends it coins, mines, and waits until it can spend them; the transaction's id."""
        address = self.rpc.newaddr("bech32")["bech32"]
        txid: str = self.bitcoind.rpc.sendtoaddress(address, Decimal(sat) / 10**8)
        self.bitcoind.mine()

        def spendable() -> bool:
            outputs = self.rpc.listfunds()["outputs"]
            return any(o["txid"] == txid and o["status"] == "confirmed" for o in outputs)

        wait_for(spendable, what=f"{self.name} to have {sat} sat")
        return txid

    def invoice(self, amount_msat: Union[int, str], label: str, description: str = "lab") -> str:
        """Makes an invoice; its bolt11."""
        bolt11: str = self.rpc.invoice(amount_msat, label, description)["bolt11"]
        return bolt11

    def pay(self, bolt11: str) -> Dict[str, Any]:
        """Pays an invoice; lightningd's answer."""
        paid: Dict[str, Any] = self.rpc.pay(bolt11)
        return paid

    def channel_with(self, peer: Node) -> Optional[Dict[str, Any]]:
        """The first channel with that node, as ``listpeerchannels`` has it."""
        channels: List[Dict[str, Any]] = self.rpc.listpeerchannels(peer.id)["channels"]
        return channels[0] if channels else None

    def knows(self, scid: str) -> bool:
        """Whether gossip has shown it both directions of a channel."""
        directions = [c for c in self.rpc.listchannels(scid)["channels"] if c["active"]]
        return len(directions) == 2


class Lab:
    """A running bitcoind, and the nodes that were added."""

    def __init__(self, server: Server, gates: bool = True) -> None:
        #: Its folder, with one folder for each node.
        self.dir = server.up(gates=gates)
        self._server = server
        self.bitcoind = Bitcoind(self.dir)
        #: All nodes, in order.
        self.nodes: List[Node] = []
        #: Whether :meth:`down` was called.
        self.is_down = False

    def add_node(
        self,
        name: Optional[str] = None,
        options: Options = {},
        plugins: Sequence[Union[str, Path, Tuple[Union[str, Path], Options]]] = (),
        env: Mapping[str, str] = {},
        kind: Optional[str] = None,
        start: bool = True,
        may_fail: bool = False,
        allow_broken: Sequence[str] = (),
        allow_plugin_death: Sequence[str] = (),
    ) -> Node:
        """Adds a node, and waits until it is ready.

        :param name: ``l`` and its place by default.
        :param options: of lightningd; ``None`` is a flag, a list gives one more than once.
        :param plugins: to start with it: paths, or pairs of a path and options.
        :param kind: ``lightningd`` or ``embedded``, where ``LAB_NODE`` is not to decide.
        :param start: whether it is started.
        :param may_fail: whether it may crash, or end with an error.
        :param allow_broken: texts of BROKEN lines that its log may have.
        :param allow_plugin_death: names of plugins that may die; ``*`` is any.
        :raises LabError: with the lab's reason.
        """
        name = name or f"l{len(self.nodes) + 1}"
        allowed = {
            "broken": list(allow_broken),
            "plugin_deaths": list(allow_plugin_death),
            "failure": may_fail,
        }
        spec = {
            "name": name,
            "kind": kind,
            "options": option_lines(options),
            "plugins": [plugin_spec(plugin) for plugin in plugins],
            "env": list({**changed(os.environ), **env}.items()),
            "allowed": allowed,
        }
        ask(self.dir, "add", spec=spec)
        node = Node(self.dir, name, self.bitcoind)
        self.nodes.append(node)
        if start:
            node.start()
        return node

    def add_nodes(self, count: int, **options: Any) -> List[Node]:
        """Adds nodes that start at the same time; arguments as of :meth:`add_node`."""
        nodes = [self.add_node(**{**options, "start": False}) for _ in range(count)]
        if options.get("start", True):
            with ThreadPoolExecutor(max(count, 1)) as pool:
                list(pool.map(Node.start, nodes))
        return nodes

    def node(self, name: str) -> Node:
        """The node of this name.

        :raises KeyError: if there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r} in this lab: it has {[n.name for n in self.nodes]}")

    def mine(self, blocks: int = 1) -> List[str]:
        """Mines, and waits until every node that is up has seen it; the blocks' hashes."""
        hashes = self.bitcoind.mine(blocks)
        height: int = self.bitcoind.rpc.getblockcount()
        for node in self.nodes:
            if node.pid is not None:
                node.wait_height(height)
        return hashes

    def open_channel(self, opener: Node, peer: Node, sat: int = CHANNEL_SAT) -> str:
        """Opens a public channel that both can use, and whose gossip both have; its
        short channel id."""
        return self.open_channels([(opener, peer)], sat)[0]

    def line_graph(
        self, nodes: Optional[Sequence[Node]] = None, sat: int = CHANNEL_SAT
    ) -> List[str]:
        """Opens channels from each node to the next; when it returns, the first can pay
        the last. Their short channel ids."""
        nodes = self.nodes if nodes is None else nodes
        return self.open_channels(list(zip(nodes, nodes[1:])), sat)

    def open_channels(
        self, pairs: Sequence[Tuple[Node, Node]], sat: int = CHANNEL_SAT
    ) -> List[str]:
        """Opens public channels, all in the same blocks, and waits until all these nodes
        know both directions of each; their short channel ids."""
        ends: List[Node] = []
        for node in (node for pair in pairs for node in pair):
            if node not in ends:
                ends.append(node)
        addresses = [opener.rpc.newaddr("bech32")["bech32"] for opener, _ in pairs]
        for address in addresses:
            self.bitcoind.rpc.sendtoaddress(address, Decimal(sat + 100_000) / 10**8)
        self.mine()
        txids = []
        for opener, peer in pairs:
            if not opener.is_connected(peer):
                opener.connect(peer)
            txids.append(opener.rpc.fundchannel(peer.id, sat)["txid"])
        self.bitcoind.wait_for_mempool(txids)
        self.mine(ANNOUNCED)

        def scid(node: Node, peer: Node, txid: str) -> Optional[str]:
            for channel in node.rpc.listpeerchannels(peer.id)["channels"]:
                if channel.get("funding_txid") == txid and channel["state"] == "CHANNELD_NORMAL":
                    found: Optional[str] = channel.get("short_channel_id")
                    return found
            return None

        scids = []
        for (opener, peer), txid in zip(pairs, txids):
            what = f"the channel of {opener.name} and {peer.name}"
            scids.append(
                wait_for(lambda: scid(opener, peer, txid) and scid(peer, opener, txid), what=what)
            )
        for node in ends:
            for one in scids:
                wait_for(lambda: node.knows(str(one)), what=f"{node.name} to know {one}")
        return [str(one) for one in scids]

    def report(self) -> str:
        """What is known of the lab so far: the ends of all logs by time, command lines."""
        text: str = ask(self.dir, "report")
        return text

    def down(self, keep: bool = False) -> None:
        """Ends it. With ``keep`` its folder stays.

        :raises Failed: if something had gone wrong that was not allowed: a BROKEN line,
            a crash, a plugin that died.
        """
        self.is_down = True
        ask(self.dir, "down", keep=keep)

    def wait_for_log(self, regex: str, timeout: float = TIMEOUT) -> Tuple[Node, str]:
        """Waits until the log of any node has a line with this; the node, and the line."""

        def look() -> Optional[Tuple[Node, str]]:
            for node in self.nodes:
                line = node.log.find(regex)
                if line is not None:
                    return node, line
            return None

        found = wait_for(look, timeout, f"/{re.escape(regex)}/ in a log")
        assert found is not None
        return found
