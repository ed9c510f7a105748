"""A plugin without a node: the test in place of lightningd."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type, Union

from .serve import LabError
from .tap import messages
from .wait import TimedOut

#: How long a plugin may take to answer, in seconds.
ANSWER = 10.0


class PluginHarness:
    """A plugin's process, which takes the test for lightningd.

    ::

        with PluginHarness("./plugin.py", {"my-option": "x"}) as plugin:
            plugin.notify("connect", {"id": "02aa", "direction": "in"})
            assert plugin.call("my-method", {})["connects"] == 1
    """

    def __init__(
        self,
        path: Union[str, Path],
        options: Optional[Dict[str, Any]] = None,
        configuration: Optional[Dict[str, Any]] = None,
        env: Optional[Dict[str, str]] = None,
        timeout: float = ANSWER,
    ) -> None:
        self.timeout = timeout
        self._folder = tempfile.TemporaryDirectory(prefix="cln-lab-harness-")
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(Path(path).absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=self._folder.name,
            env={**os.environ, "LIGHTNINGD_PLUGIN": "1", **(env or {})},
        )
        self._next_id = 0
        self._answers: "queue.Queue[Optional[Dict[str, Any]]]" = queue.Queue()
        #: What it has sent that is no answer: log lines, notifications, requests.
        self.sent: List[Dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        try:
            #: What it answered to ``getmanifest``.
            self.manifest: Dict[str, Any] = self.call(
                "getmanifest", {"allow-deprecated-apis": False}
            )
            init = {
                "lightning-dir": self._folder.name,
                "rpc-file": "lightning-rpc",
                "startup": True,
                "network": "regtest",
                "feature_set": {"init": "", "node": "", "channel": "", "invoice": ""},
                **(configuration or {}),
            }
            #: What it answered to ``init``.
            self.init: Any = self.call("init", {"options": options or {}, "configuration": init})
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for message in messages(self._process.stdout.fileno()):
                if "id" in message and "method" not in message:
                    self._answers.put(message)
                else:
                    self.sent.append(message)
        except (OSError, ValueError):
            """It was closed."""
        self._answers.put(None)

    def call(self, method: str, params: Any = None) -> Any:
        """Calls a method or a hook, and waits for the answer.

        :raises LabError: if it answers with an error, or ends.
        :raises TimedOut: if it does not answer.
        """
        self._next_id += 1
        request_id = f"harness:{method}#{self._next_id}"
        self._send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})
        while True:
            try:
                answer = self._answers.get(timeout=self.timeout)
            except queue.Empty:
                raise TimedOut(
                    f"no answer to `{method}` in {self.timeout} s\n{self.stderr()}"
                ) from None
            if answer is None:
                status = self._process.wait()
                raise LabError(
                    f"the plugin ended before it answered `{method}`: {status}\n{self.stderr()}"
                )
            if answer["id"] != request_id:
                continue
            if "error" in answer:
                raise LabError(f"`{method}`: {json.dumps(answer['error'])}")
            return answer["result"]

    def notify(self, topic: str, payload: Any) -> None:
        """Sends a notification, in the form of today: the payload under the topic's name."""
        self._send({"jsonrpc": "2.0", "method": topic, "params": {topic: payload}})

    def _send(self, message: Dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            """It has ended: the wait for its answer says so."""

    def stderr(self) -> str:
        """What it wrote to standard error."""
        length = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), length, 0).decode("utf-8", "replace")

    def close(self) -> int:
        """Closes its input, as lightningd does at its end, and waits until it has ended;
        its exit code. After ``timeout`` it is killed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            """It has ended already."""
        try:
            code = self._process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._folder.cleanup()
        return code

    def __enter__(self) -> PluginHarness:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()
