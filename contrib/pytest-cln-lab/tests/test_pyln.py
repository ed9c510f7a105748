"""What is written for pyln-testing."""

from __future__ import annotations

import os
import socket
from decimal import Decimal
from pathlib import Path

import pytest
from pyln.testing.fixtures import *  # type: ignore # noqa: F401,F403
from pyln.testing.utils import (  # type: ignore
    BITCOIND_CONFIG,
    only_one,
    reserve_unused_port,
    sync_blockheight,
    wait_for,
    write_config,
)


def test_options_change_between_starts(  # type: ignore
    node_factory, counter, directory, monkeypatch
) -> None:
    monkeypatch.setenv("A", "of the test")
    l1 = node_factory.get_node(options={"plugin": str(counter), "greeting": "one"})
    assert str(l1.lightning_dir) == os.path.join(directory, "lightning-1")
    assert l1.daemon.is_in_log("greets with one, A=of the test")
    del l1.daemon.opts["plugin"], l1.daemon.opts["greeting"]
    l1.daemon.env["A"] = "b"
    l1.restart()
    l1.stop()
    l1.daemon.opts.update({"plugin": [str(counter)], "greeting": "two"})
    l1.start()
    l1.daemon.logsearch_start = 0
    l1.daemon.wait_for_logs(["greets with one", "greets with two, A=b"])
    assert l1.daemon.running and l1.daemon.proc.poll() is None
    l1.daemon.kill()
    assert l1.daemon.proc.returncode == -9 and not l1.daemon.running
    l1.start()


def test_nodes_connect(node_factory, bitcoind, executor) -> None:  # type: ignore
    l1, l2 = node_factory.line_graph(2, fundchannel=False, opts=[{}, {"may_reconnect": True}])
    assert only_one(l1.rpc.listpeers()["peers"])["id"] == l2.info["id"]
    bitcoind.generate_block(1)
    sync_blockheight(bitcoind, [l1, l2])
    assert executor.submit(l1.rpc.getinfo).result()["id"] == l1.info["id"]


def test_what_fails_to_start_says_why(node_factory) -> None:  # type: ignore
    l1 = node_factory.get_node(options={"no-such-option": 1}, expect_fail=True)
    assert l1.daemon.is_in_stderr("no-such-option") or l1.daemon.is_in_log("no-such-option")
    l2 = node_factory.get_node(start=False, may_fail=True)
    l2.daemon.opts["no-such-option"] = None
    with pytest.raises((TimeoutError, ValueError), match="no-such-option"):
        l2.start()
    assert l2.daemon.proc.wait() != 0


def test_bitcoind_takes_options(directory, bitcoind) -> None:  # type: ignore
    config = {"regtest": 1, "rpcport": BITCOIND_CONFIG["rpcport"], "blockfilterindex": 1}
    write_config(os.path.join(directory, "bitcoin.conf"), config, {})
    bitcoind.start()
    assert set(bitcoind.rpc.getindexinfo()) == {"basic block filter index", "txindex"}
    assert bitcoind.rpc.listwallets() == ["lightningd-tests"]
    txid = bitcoind.send_and_mine_block(bitcoind.getnewaddress(), 1234)
    outputs = bitcoind.rpc.getrawtransaction(txid, 1)["vout"]
    assert Decimal("0.00001234") in [out["value"] for out in outputs]
    hashes = bitcoind.simple_reorg(bitcoind.rpc.getblockcount())
    assert len(hashes) == 2


def test_channels_feerates_and_the_database(node_factory, bitcoind, lightningd) -> None:  # type: ignore
    l1, l2 = node_factory.line_graph(2, wait_for_announce=True)
    scid = l1.get_channel_scid(l2)
    assert l1.is_channel_active(scid) and l1.channel_state(l2) == "CHANNELD_NORMAL"
    l1.pay(l2, 1000)
    assert l1.rpc.feerates("perkw")["perkw"]["opening"] == 7500
    l1.daemon.rpcproxy.mock_rpc("getmempoolinfo", {"error": "mocked"})
    l1.daemon.rpcproxy.mock_rpc("getmempoolinfo")
    l1.stop()
    l1.db.execute("UPDATE vars SET intval = intval WHERE name = ?", ("data_version",))
    assert (
        only_one(l1.db.query("SELECT intval FROM vars WHERE name = 'data_version'"))["intval"] > 0
    )


def test_what_cannot_be_had_is_named(node_factory, directory) -> None:  # type: ignore
    l1 = node_factory.get_node(start=False)
    with pytest.raises(NotImplementedError, match="query_gossip is not to be had with cln_lab: "):
        l1.query_gossip("x")
    assert Path(directory, "lightning-1").is_dir()
    wait_for(lambda: True)


def test_reserved_ports_have_a_free_one_behind_them() -> None:
    ports = [reserve_unused_port() for _ in range(50)]
    assert len(set(ports)) == 50
    for port in ports:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port + 1))
