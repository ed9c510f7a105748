"""The lab's bitcoind, and a proxy before it whose answers a test can choose."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from .serve import ask, describe
from .wait import TIMEOUT, wait_for


class JSONRPCError(Exception):
    """bitcoind refused a request; ``error`` is as it sent it."""

    def __init__(self, method: str, error: Dict[str, Any]) -> None:
        super().__init__(f"{method}: {error}")
        self.error = error


def _encode(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:.8f}"
    return str(value)


class BitcoinRpc:
    """bitcoind's methods as its own: ``rpc.getblockcount()``. Amounts are ``Decimal``."""

    def __init__(self, port: int, user: str, password: str, timeout: float = TIMEOUT) -> None:
        self._port = port
        self._timeout = timeout
        self._auth = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("__"):
            raise AttributeError(method)

        def call(*params: Any) -> Any:
            return self.call(method, *params)

        call.__name__ = method
        return call

    def call(self, method: str, *params: Any) -> Any:
        """Calls a method, with parameters by position.

        :raises JSONRPCError: bitcoind's.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
        try:
            body = json.dumps({"id": 0, "method": method, "params": params}, default=_encode)
            connection.request("POST", "/", body, {"Authorization": self._auth})
            answer = json.loads(connection.getresponse().read(), parse_float=Decimal)
        finally:
            connection.close()
        if answer.get("error") is not None:
            raise JSONRPCError(method, answer["error"])
        return answer["result"]


class Bitcoind:
    """The lab's bitcoind."""

    def __init__(self, lab: Union[str, Path]) -> None:
        self.lab = Path(lab)
        described = describe(lab)["bitcoind"]
        #: Its data directory.
        self.dir = Path(described["dir"])
        #: The port of its JSON-RPC interface.
        self.port: int = described["port"]
        config = (self.dir / "bitcoin.conf").read_text()
        pairs = dict(line.split("=", 1) for line in config.splitlines() if "=" in line)
        self.user, self.password = pairs["rpcuser"], pairs["rpcpassword"]
        self.rpc = BitcoinRpc(self.port, self.user, self.password)

    @property
    def pid(self) -> int:
        """Its process id, as of its last start."""
        pid: int = describe(self.lab)["bitcoind"]["pid"]
        return pid

    def mine(self, blocks: int = 1) -> List[str]:
        """Mines to its wallet; the blocks' hashes. :meth:`cln_lab.Lab.mine` waits for the nodes, too."""
        hashes: List[str] = self.rpc.generatetoaddress(blocks, self.rpc.getnewaddress())
        return hashes

    def wait_for_mempool(self, txids: Sequence[str]) -> None:
        """Waits until all these transactions are in the mempool."""
        wait_for(
            lambda: set(txids) <= set(self.rpc.getrawmempool()), what=f"{txids} in the mempool"
        )

    def stop(self) -> int:
        """Stops it; its exit status as wait(2) has it."""
        status: int = ask(self.lab, "stopbitcoind")
        return status

    def start(self, options: Sequence[Tuple[str, str]] = ()) -> None:
        """Starts it again, with these lines in its configuration."""
        ask(self.lab, "startbitcoind", options=[list(option) for option in options])


#: What a mock returns: the answer as JSON-RPC has it, or ``None`` for bitcoind's own.
Mock = Callable[[Dict[str, Any]], Optional[Dict[str, Any]]]


class BitcoinRpcProxy:
    """Passes requests on to bitcoind, except those of methods that are mocked."""

    def __init__(self, rpcport: int) -> None:
        self.mocks: Dict[str, Union[Mock, Dict[str, Any]]] = {}
        #: How often each mock was asked.
        self.mock_counts: Dict[str, int] = {}
        self.request_count = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = proxy._answer(
                    rpcport, self.path, body, self.headers.get("Authorization", "")
                )
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                """The client is gone: a node that was killed."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.rpcport: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def _answer(self, port: int, path: str, body: bytes, auth: str) -> Tuple[int, bytes]:
        self.request_count += 1
        try:
            request = json.loads(body)
        except ValueError:
            request = None
        mocked = [request] if isinstance(request, dict) else request or []
        if any(one.get("method") in self.mocks for one in mocked):
            answers = [
                self._mocked(one) or self._passed_on(port, path, one, auth) for one in mocked
            ]
            chosen = answers if isinstance(request, list) else answers[0]
            return 200, json.dumps(chosen, default=_number).encode()
        return self._forward(port, path, body, auth)

    def _mocked(self, request: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        mock = self.mocks.get(request["method"])
        if mock is None:
            return None
        self.mock_counts[request["method"]] += 1
        if callable(mock):
            return mock(request)
        return {"id": request["id"], "error": None, "result": mock}

    def _passed_on(self, port: int, path: str, request: Dict[str, Any], auth: str) -> Any:
        return json.loads(
            self._forward(port, path, json.dumps(request).encode(), auth)[1], parse_float=Decimal
        )

    @staticmethod
    def _forward(port: int, path: str, body: bytes, auth: str) -> Tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request("POST", path, body, {"Authorization": auth})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            # It is down, as the client shall see.
            return 503, b""
        finally:
            connection.close()

    def mock_rpc(self, method: str, response: Union[Mock, Dict[str, Any], None] = None) -> None:
        """From now on ``method`` is answered by this: a result, or a function of the
        request that returns an answer; with ``None`` by bitcoind again."""
        if response is None:
            self.mocks.pop(method, None)
            return
        self.mock_counts[method] = 0
        self.mocks[method] = response

    def stop(self) -> None:
        """Ends it, a moment later."""

        def end() -> None:
            self._server.shutdown()
            self._server.server_close()

        threading.Thread(target=end, daemon=True).start()


def _number(value: Any) -> Any:
    return f"{value:.8f}" if isinstance(value, Decimal) else str(value)
