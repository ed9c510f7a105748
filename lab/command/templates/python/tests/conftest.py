"""The lab that `lab exec` has started, as fixtures."""

import os
import time
from pathlib import Path

import pytest
from pyln.client import LightningRpc, RpcError


class Node(LightningRpc):
    """A node of the lab: its RPC methods, and its log."""

    def __init__(self, name):
        super().__init__(os.environ[f"{name.upper()}_RPC"])
        self.node_id = os.environ[f"{name.upper()}_ID"]
        self.port = int(os.environ[f"{name.upper()}_PORT"])
        self.log = Path(os.environ[f"{name.upper()}_DIR"], "log")
        self.logged = self.log.stat().st_size

    def wait_for_log(self, text, seconds=30):
        """Waits until a line that the node has logged in this test contains `text`."""
        deadline = time.monotonic() + seconds
        while text not in (log := self.log.read_bytes()[self.logged :].decode(errors="replace")):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no `{text}` in {self.log} after {seconds} s:\n{log[-2000:]}")
            time.sleep(0.02)


@pytest.fixture
def l1():
    node = Node("l1")
    yield node
    # The next test has the same nodes.
    for peer in node.listpeers()["peers"]:
        node.disconnect(peer["id"], force=True)


@pytest.fixture
def l2():
    return Node("l2")


@pytest.fixture
def plugin(l1):
    """The plugin, started on l1 with an option, and stopped after the test."""
    path = str(Path(__file__).resolve().parent.parent / "PLUGIN_NAME.py")
    options = {"PLUGIN_NAME-greeting": "welcome"}
    try:
        l1.call("plugin", {"subcommand": "start", "plugin": path, **options})
    except RpcError as error:
        # The plugin's stderr is the node's, which the lab writes beside its log.
        stderr = l1.log.with_name("output").read_text(errors="replace")
        pytest.fail(f"{error.error['message']}\n{stderr[-2000:]}", pytrace=False)
    yield
    l1.plugin_stop(path)
