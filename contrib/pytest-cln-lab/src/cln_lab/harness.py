"""A plugin without a node: the test in place of lightningd."""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type, Union

from .serve import LabError
from .tap import messages
from .wait import TimedOut

#: How long a plugin may take to answer, in seconds.
ANSWER = 10.0

# Outlives pytest, whatever ends that, and cleans up: unless it is told that the plugin has
# ended, its group is killed first.
_WATCH = 'read -r ended || kill -s KILL -- "-$2" 2>/dev/null; rm -rf -- "$1"'


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
        self._folder = tempfile.mkdtemp(prefix="cln-lab-harness-")
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [str(Path(path).absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=self._folder,
            env={**os.environ, "LIGHTNINGD_PLUGIN": "1", **(env or {})},
            # A group of its own, with all that it starts.
            start_new_session=True,
        )
        self._watch = subprocess.Popen(
            ["sh", "-c", _WATCH, "sh", self._folder, str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        # So that one that does not read is noticed.
        os.set_blocking(self._process.stdin.fileno(), False)
        self._next_id = 0
        self._answers: "queue.Queue[Optional[Dict[str, Any]]]" = queue.Queue()
        self._noise = ""
        #: What it has sent that is no answer: log lines, notifications, requests.
        self.sent: List[Dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        try:
            #: What it answered to ``getmanifest``.
            self.manifest: Dict[str, Any] = self.call(
                "getmanifest", {"allow-deprecated-apis": False}
            )
            init = {
                "lightning-dir": self._folder,
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
        except UnicodeDecodeError as error:
            self._noise = f"what is no UTF-8 came on its standard output: {error}"
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
                self._answers.put(None)
                raise LabError(f"no answer to `{method}`: {self._end()}\n{self.stderr()}")
            if answer["id"] != request_id:
                continue
            if "error" in answer:
                raise LabError(f"`{method}`: {json.dumps(answer['error'])}")
            return answer["result"]

    def _end(self) -> str:
        """Why nothing more comes from it."""
        if self._noise:
            return self._noise
        try:
            return f"the plugin ended: {self._process.wait(1)}"
        except subprocess.TimeoutExpired:
            return "it closed its standard output, but still runs"

    def notify(self, topic: str, payload: Any) -> None:
        """Sends a notification, in the form of today: the payload under the topic's name."""
        self._send({"jsonrpc": "2.0", "method": topic, "params": {topic: payload}})

    def _send(self, message: Dict[str, Any]) -> None:
        assert self._process.stdin is not None
        pipe = self._process.stdin.fileno()
        rest = json.dumps(message).encode() + b"\n\n"
        end = time.monotonic() + self.timeout
        while rest:
            if not select.select([], [pipe], [], max(end - time.monotonic(), 0))[1]:
                raise TimedOut(
                    f"the plugin has not read its input for {self.timeout} s\n{self.stderr()}"
                )
            try:
                rest = rest[os.write(pipe, rest) :]
            except BlockingIOError:
                """Less room than a whole piece needs: it is looked for again."""
            except BrokenPipeError:
                # It has ended: the wait for its answer says so.
                return

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
        if self._watch.stdin and not self._watch.stdin.closed:
            self._watch.communicate(b"ended\n")
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
