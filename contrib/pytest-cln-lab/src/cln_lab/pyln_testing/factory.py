"""pyln-testing's ``NodeFactory``: the nodes of a test."""

from __future__ import annotations

import contextlib
import lzma
import os
import shutil
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from pyln.client import NodeVersion

from ..serve import LabError, ask
from ..wait import wait_for
from .bitcoind import BitcoinD
from .db import SqliteDbProvider
from .helpers import drop_unused_port, reserve_unused_port, sync_blockheight
from .lightningd import LightningD
from .node import FUNDAMOUNT, LightningNode

#: Members of ``opts`` that are not options of lightningd.
NODE_OPTIONS = {
    "allow_bad_gossip",
    "allow_broken_log",
    "allow_warning",
    "bad_notifications",
    "bkpr_dbfile",
    "broken_log",
    "cleandir",
    "dbfile",
    "disconnect",
    "executable",
    "expect_fail",
    "feerates",
    "gossip_store_file",
    "may_fail",
    "may_reconnect",
    "old_hsmsecret",
    "random_hsm",
    "start",
    "wait_for_bitcoind_sync",
}


class NodeFactory:
    """Makes the nodes of a test, and ends them."""

    def __init__(
        self,
        testname: str,
        bitcoind: BitcoinD,
        executor: Any,
        directory: str,
        db_provider: SqliteDbProvider,
        node_cls: Any,
        jsonschemas: Any,
        node: str,
    ) -> None:
        self.testname = testname
        self.bitcoind = bitcoind
        self.executor = executor
        self.directory = directory
        self.db_provider = db_provider
        self.node_cls = node_cls
        self.jsonschemas = jsonschemas
        self.nodes: List[LightningNode] = []
        self.reserved_ports: List[int] = []
        self.lock = threading.Lock()
        self.next_id = 1
        # `lightningd v26.06.6`, or `embedded node v26.06.6`, which answers as that does.
        self.lightningd = node.startswith("lightningd")
        self.version = NodeVersion(next((w for w in node.split() if w[:1] == "v"), "v26.06"))

    def split_options(self, opts: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        """What is the node's, and what is lightningd's."""
        ours = {name: value for name, value in opts.items() if name in NODE_OPTIONS}
        theirs = {name: value for name, value in opts.items() if name not in NODE_OPTIONS}
        return ours, theirs

    def get_node_id(self) -> int:
        """The next number."""
        with self.lock:
            node_id = self.next_id
            self.next_id += 1
            return node_id

    def get_nodes(
        self,
        num_nodes: int,
        opts: Union[Mapping[str, Any], Sequence[Mapping[str, Any]], None] = None,
    ) -> List[LightningNode]:
        """Starts nodes at the same time, each with its own options, or all with the same."""
        all_opts = (
            [opts or {}] * num_nodes if opts is None or isinstance(opts, Mapping) else list(opts)
        )
        assert len(all_opts) == num_nodes
        jobs = []
        for one in all_opts:
            assert isinstance(one, Mapping)
            ours, theirs = self.split_options(one)
            node_id = self.get_node_id()
            jobs.append(
                self.executor.submit(self.get_node, node_id=node_id, options=theirs, **ours)
            )
        return [job.result() for job in jobs]

    def get_node(
        self,
        node_id: Optional[int] = None,
        options: Optional[Mapping[str, Any]] = None,
        dbfile: Optional[str] = None,
        bkpr_dbfile: Optional[str] = None,
        feerates: Optional[Sequence[int]] = (15000, 11000, 7500, 3750),
        start: bool = True,
        wait_for_bitcoind_sync: bool = True,
        may_fail: bool = False,
        expect_fail: bool = False,
        cleandir: bool = True,
        gossip_store_file: Optional[str] = None,
        random_hsm: bool = False,
        executable: Optional[str] = None,
        old_hsmsecret: Any = None,
        unused_grpc_port: bool = True,
        valgrind_plugins: bool = True,
        port: Optional[int] = None,
        **kwargs: Any,
    ) -> LightningNode:
        """Makes a node, and starts it."""
        if port is not None:
            raise ValueError("port: the lab leases a node's port, so that tests never share one")
        node_id = node_id or self.get_node_id()
        name = f"lightning-{node_id}"
        lightning_dir = os.path.join(self.directory, name, "")
        network_dir = os.path.join(lightning_dir, "regtest")
        if cleandir and os.path.exists(lightning_dir):
            shutil.rmtree(lightning_dir)
        os.makedirs(network_dir, exist_ok=True)
        secret = Path(network_dir, "hsm_secret")
        if not random_hsm and self.lightningd:
            # The old form, 32 bytes: a test's nodes always have the same ids.
            secret.write_bytes((name.encode() + bytes(32))[:32])
            secret.chmod(0o400)
        db = self.db_provider.get_db(network_dir, self.testname, node_id)
        proxy = self.bitcoind.get_proxy()
        daemon = LightningD(
            self.directory, lightning_dir, proxy, self.version, self.lightningd, executable
        )
        node: LightningNode = self.node_cls(
            node_id,
            lightning_dir,
            self.bitcoind,
            self.executor,
            daemon=daemon,
            db=db,
            lightningd=self.lightningd,
            may_fail=may_fail or expect_fail,
            options=options,
            jsonschemas=self.jsonschemas,
            **kwargs,
        )
        if feerates is not None:
            node.set_feerates(feerates, False)
        daemon.configured = daemon.spec()
        spec = {**daemon.configured, "name": name, "program": executable}
        ask(self.directory, "add", spec={**spec, "allowed": {"failure": True}})
        self.nodes.append(node)
        for packed, into in ((dbfile, "lightningd.sqlite3"), (bkpr_dbfile, "accounts.sqlite3")):
            if packed:
                with lzma.open(os.path.join("tests/data", packed), "rb") as file:
                    Path(network_dir, into).write_bytes(file.read())
        if gossip_store_file:
            shutil.copy(gossip_store_file, os.path.join(network_dir, "gossip_store"))
        if start:
            try:
                node.start(wait_for_bitcoind_sync)
            except Exception:
                if expect_fail:
                    return node
                # Why it did not start is the error, not that it does not end, either.
                with contextlib.suppress(Exception):
                    daemon.stop()
                raise
        return node

    def join_nodes(
        self,
        nodes: Sequence[LightningNode],
        fundchannel: bool = True,
        fundamount: int = FUNDAMOUNT,
        wait_for_announce: bool = False,
        announce_channels: bool = True,
    ) -> None:
        """Connects each node to the next, and opens a channel to it."""
        assert not (wait_for_announce and not announce_channels), (
            "You've asked to wait for an announcement that's not coming."
        )
        pairs = list(zip(nodes, nodes[1:]))
        for src, dst in pairs:
            src.rpc.connect(dst.info["id"], "localhost", dst.port)
        if not fundchannel:
            for src, dst in pairs:
                wait_for(lambda: src.rpc.listpeers(dst.info["id"])["peers"] != [])
                wait_for(lambda: dst.rpc.listpeers(src.info["id"])["peers"] != [])
            return
        bitcoind = self.bitcoind
        for src, _ in pairs:
            address = src.rpc.newaddr("bech32")["bech32"]
            bitcoind.rpc.sendtoaddress(address, (fundamount + 1_000_000) / 10**8)
        bitcoind.generate_block(1)
        sync_blockheight(bitcoind, nodes)

        def open_channel(pair: Tuple[LightningNode, LightningNode]) -> Any:
            src, dst = pair
            return src.rpc.fundchannel(dst.info["id"], fundamount, announce=announce_channels)[
                "txid"
            ]

        txids = [open_channel(pair) for pair in pairs]
        bitcoind.generate_block(1, wait_for_mempool=txids)
        scids = []
        for src, dst in pairs:
            wait_for(lambda: src.channel_state(dst) == "CHANNELD_NORMAL")
            scids.append(src.get_channel_scid(dst))
        for (src, dst), scid in zip(pairs, scids):
            src.wait_local_channel_active(scid)
            dst.wait_local_channel_active(scid)
        if not wait_for_announce:
            return
        bitcoind.generate_block(5)
        for node in nodes:
            for scid in scids:
                node.wait_channel_active(scid)
        for node in nodes:
            for other in nodes:
                alias = other.rpc.getinfo()["alias"]
                peer = other.info["id"]
                wait_for(lambda: node.alias_of(peer) == alias, what=f"the announcement of {alias}")

    def line_graph(
        self,
        num_nodes: int,
        fundchannel: bool = True,
        fundamount: int = FUNDAMOUNT,
        wait_for_announce: bool = False,
        opts: Union[Mapping[str, Any], Sequence[Mapping[str, Any]], None] = None,
        announce_channels: bool = True,
    ) -> List[LightningNode]:
        """Starts nodes, and joins them in a line."""
        nodes = self.get_nodes(num_nodes, opts=opts)
        self.join_nodes(nodes, fundchannel, fundamount, wait_for_announce, announce_channels)
        return nodes

    def get_unused_port(self) -> int:
        """A port for something of the test's own."""
        port = reserve_unused_port()
        self.reserved_ports.append(port)
        return port

    def killall(self, expected_successes: Sequence[bool]) -> Tuple[bool, List[str]]:
        """Stops all nodes at once; whether those did well that were to, and errors beyond."""

        def stop(node: LightningNode) -> bool:
            try:
                node.stop()
                return True
            except (ValueError, LabError):
                return False

        went_well = list(self.executor.map(stop, self.nodes))
        for port in self.reserved_ports:
            drop_unused_port(port)
        return all(
            well or not expected for well, expected in zip(went_well, expected_successes)
        ), []
