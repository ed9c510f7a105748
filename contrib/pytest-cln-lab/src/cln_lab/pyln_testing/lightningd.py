"""A node's process as pyln-testing's ``LightningD``."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Optional

from pyln.client import LightningRpc, NodeVersion

from ..bitcoin import BitcoinRpcProxy
from ..lab import option_lines
from ..log import Log
from ..serve import LabError, ask, changed, node_in
from ..wait import TIMEOUT, TimedOut, wait_for
from .process import Proc, TailableProc
from .settings import DEPRECATED_APIS

LIGHTNINGD_CONFIG: "OrderedDict[str, Any]" = OrderedDict(
    {
        "log-level": "trace",
        "cltv-delta": 6,
        "cltv-final": 5,
        "watchtime-blocks": 5,
        "rescan": 1,
        "disable-dns": None,
    }
)


class Unavailable(NotImplementedError):
    """Something of pyln-testing that cannot be had here."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} is not to be had with cln_lab: {why}")


class PrettyPrintingLightningRpc(LightningRpc):
    """A node's methods. Schemas are not checked: those are tests of lightningd."""

    def __init__(
        self, socket_path: str, executor: Any = None, jsonschemas: Any = None, **_: Any
    ) -> None:
        super().__init__(socket_path, executor)
        self.jsonschemas = jsonschemas or {}
        self.check_request_schemas = False


class LightningD(TailableProc):
    """A node's process. Its options are those of ``opts`` when it starts."""

    def __init__(
        self,
        lab: str,
        lightning_dir: str,
        rpcproxy: BitcoinRpcProxy,
        version: NodeVersion,
        lightningd: bool,
        executable: Optional[str],
    ) -> None:
        self.lab = lab
        self.name = Path(lightning_dir).name
        super().__init__(lightning_dir, verbose=False)
        self.lightning_dir = lightning_dir
        self.rpcproxy = rpcproxy
        self.executable = executable or "lightningd"
        self.cln_version = version
        self.prefix = self.name
        self.env["CLN_PLUGIN_LOG"] = "cln_plugin=trace,cln_rpc=trace,cln_grpc=trace,debug"
        self.stderr = Log(os.path.join(lightning_dir, "output"))
        #: What this node has of lightningd's options, but for the lab's own. ``None`` is a
        #: flag, a list gives one more than once.
        self.opts: "OrderedDict[str, Any]" = OrderedDict()
        if lightningd:
            self.opts.update(LIGHTNINGD_CONFIG)
            if version <= "v24.02.2":
                self.opts["log-level"] = "debug"
            self.opts["allow-deprecated-apis"] = "true" if DEPRECATED_APIS else "false"
            self.opts["ignore-fee-limits"] = "false"
        self.early_opts: List[str] = []
        #: What the lab was last asked to set for it.
        self.configured: Optional[Dict[str, Any]] = None

    @property
    def port(self) -> int:
        """The port on which peers reach it."""
        return int(node_in(self.lab, self.name)["port"])

    @property
    def cmd_line(self) -> List[str]:
        """As the lab starts it; what the lab itself sets is in the node's `config`."""
        return [self.executable, f"--lightning-dir={self.lightning_dir}", *self._arguments()]

    def _arguments(self) -> List[str]:
        lines = option_lines(self.opts)
        return [f"--{name}" if value is None else f"--{name}={value}" for name, value in lines]

    def spec(self) -> Dict[str, Any]:
        """What the lab is to set for it."""
        port = str(self.rpcproxy.rpcport)
        return {
            "arguments": self._arguments(),
            "env": list(changed(self.env).items()),
            "options": [("bitcoin-rpcport", port)],
        }

    def start(
        self,
        stdin: Any = None,
        wait_for_initialized: bool = True,
        stderr_redir: bool = False,
    ) -> None:
        """Starts it, and waits until it is ready.

        :raises TimedOut: if it ends instead, at once.
        """
        if stdin is not None:
            raise Unavailable(
                "stdin", "a node's standard input is empty; for a passphrase use a file"
            )
        spec = self.spec()
        if self.configured != spec:
            ask(self.lab, "configure", node=self.name, spec=spec)
            self.configured = spec
        self.proc = Proc(self.lab, self.name)
        if not wait_for_initialized:
            self._launch()
            return
        try:
            ask(self.lab, "start", node=self.name)
        except LabError as error:
            raise TimedOut(f"{self.name} did not start: {error}") from None
        self.wait_for_log("Server started with public key")

    def _launch(self) -> None:
        def start() -> None:
            try:
                ask(self.lab, "start", node=self.name)
            except LabError:
                """The test waits for what it expects."""

        def size() -> int:
            return self.log.path.stat().st_size if self.log.path.exists() else 0

        starting, before = threading.Thread(target=start, daemon=True), size()
        starting.start()
        wait_for(lambda: size() > before or not starting.is_alive(), what=f"{self.name} to log")

    def wait(self, timeout: float = TIMEOUT) -> Optional[int]:
        """Waits until it ends; its exit code."""
        assert self.proc is not None
        return int(self.proc.wait(timeout))

    def cleanup(self) -> None:
        """Lets a peer go that ``dev-disconnect`` holds."""
        if "dev-disconnect" in self.opts:
            open(self.opts["dev-disconnect"], "w").close()
