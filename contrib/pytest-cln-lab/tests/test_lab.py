"""The fixture ``lab``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from pyln.client import Plugin

from cln_lab import Lab, LabError, PluginHarness, Refused, TimedOut, wait_for


def test_nodes_connect_and_a_plugin_sees_it(lab: Lab, counter: Path) -> None:
    l1, l2 = lab.add_nodes(2)
    assert (l1.name, l2.name) == ("l1", "l2") and len(l1.id) == 66
    l1.plugin_start(counter, greeting="hi")
    l1.log.wait_for("greets with hi")
    tap = l1.tap("connect", "disconnect")
    l1.connect(l2)
    assert tap.expect("connect").payload["id"] == l2.id
    assert wait_for(lambda: l1.rpc.call("seen")["ids"]) == [l2.id]
    l1.disconnect(l2)
    assert tap.expect("disconnect", lambda it: it["id"] == l2.id)
    with pytest.raises(TimedOut, match="what came"):
        tap.expect("connect", timeout=0.05)


def test_a_plugin_runs_in_this_process(lab: Lab) -> None:
    l1, l2 = lab.add_nodes(2)
    plugin, seen = Plugin(autopatch=False), []

    @plugin.subscribe("connect")  # type: ignore[misc]
    def connected(plugin: Plugin, connect: Any, **_: Any) -> None:
        seen.append(connect["id"])

    @plugin.method("count")  # type: ignore[misc]
    def count(plugin: Plugin) -> Any:
        """How many."""
        return {"count": len(seen)}

    l1.inline_plugin(plugin)
    l1.connect(l2)
    wait_for(lambda: seen == [l2.id])
    assert l1.rpc.call("count") == {"count": 1}


def test_a_node_changes_and_ends(lab: Lab, counter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    l1 = lab.add_node(plugins=[(counter, {"greeting": "first"})], env={"A": "b"})
    assert l1.log.find("greets with first, A=b")
    assert l1.stop() == 0 and l1.pid is None
    monkeypatch.setenv("A", "of the test")
    l1.reconfigure(options={"alias": "renamed"}, plugins=[counter])
    l1.start()
    assert l1.rpc.getinfo()["alias"] == "renamed"
    assert l1.log.wait_for("greets with hello, A=of the test")
    with pytest.raises(Refused, match="running already"):
        l1.start()
    assert l1.kill9() == -signal.SIGKILL
    l2 = lab.add_node("carol", start=False)
    assert l2.id == "" and l2.dir.is_dir()
    with pytest.raises(Refused, match="carol"):
        lab.add_node("carol")


def test_bitcoind_mines_and_stops(lab: Lab) -> None:
    height = lab.bitcoind.rpc.getblockcount()
    l1 = lab.add_node()
    lab.mine(2)
    assert l1.rpc.getinfo()["blockheight"] == height + 2
    assert lab.bitcoind.stop() == 0
    lab.bitcoind.start([("blockfilterindex", "1")])
    assert "basic block filter index" in lab.bitcoind.rpc.getindexinfo()


def test_a_payment_crosses_two_channels(lab: Lab, lightningd: None) -> None:
    nodes = lab.add_nodes(3)
    lab.line_graph(nodes)
    paid = nodes[0].pay(nodes[2].invoice(1000, "inv"))
    assert paid["status"] == "complete"


def test_a_lab_that_was_ended(lab: Lab) -> None:
    lab.add_node()
    lab.down()
    assert not lab.dir.exists()


def test_a_plugin_that_does_not_take_part_is_not_waited_for(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    for text, why in {
        "exec >&-; sleep 60": "it closed its standard output, but still runs",
        "printf '\\377'; sleep 60": "no UTF-8",
        "sleep 60": "no answer to `getmanifest` in 0.5 s",
    }.items():
        plugin.write_text(f"#!/bin/sh\n{text}\n")
        plugin.chmod(0o700)
        with pytest.raises((LabError, TimedOut), match=why):
            PluginHarness(plugin, timeout=0.5)
    answers = [
        f"read -r line; read -r line; echo '{{\"id\":\"harness:{method}#{n}\",\"result\":{{}}}}'"
        for n, method in enumerate(["getmanifest", "init"], 1)
    ]
    plugin.write_text("#!/bin/sh\n" + "\n".join([*answers, "sleep 60"]) + "\n")
    with PluginHarness(plugin, timeout=0.5) as deaf:
        with pytest.raises(TimedOut, match="has not read its input for 0.5 s"):
            for _ in range(100):
                deaf.notify("connect", {"id": "02" * 5000})


def test_a_plugin_without_a_node(counter: Path) -> None:
    with PluginHarness(counter, {"greeting": "hi"}) as plugin:
        assert "connect" in plugin.manifest["subscriptions"]
        plugin.notify("connect", {"id": "02aa"})
        assert plugin.call("seen") == {"ids": ["02aa"]}
        with pytest.raises(LabError, match="no answer to `die`: the plugin ended: 3"):
            plugin.call("die")
