"""Plugins that run in this process, and the one that records notifications."""

from __future__ import annotations

import codecs
import io
import json
import os
import queue
import shlex
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from pyln.client import LightningRpc, Plugin

from .wait import TIMEOUT, TimedOut

# lightningd runs the script, whose two `cat` pass on what comes over named pipes.
_SCRIPT = """#!/bin/sh
exec 3<{output} 4>{input} 5<&0
cat <&5 >&4 3<&- 5<&- &
exec cat <&3 3<&- 4>&- 5<&-
"""


def messages(descriptor: int) -> Iterator[Dict[str, Any]]:
    """The JSON-RPC messages that come from a file, up to its end."""
    decoder, utf8, text = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")(), ""
    while True:
        new = os.read(descriptor, 65536)
        if not new:
            return
        text += utf8.decode(new)
        while True:
            text = text.lstrip()
            try:
                message, end = decoder.raw_decode(text)
            except ValueError:
                # Not all of it has come yet.
                break
            text = text[end:]
            yield message


class _Shim:
    """An executable for lightningd, and this process's ends of its pipes."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder))
        pipes = own / "in", own / "out"
        for pipe in pipes:
            os.mkfifo(pipe, 0o600)
        self.path = own / name
        self.path.touch(0o700)
        quoted = [shlex.quote(str(pipe)) for pipe in pipes]
        self.path.write_text(_SCRIPT.format(input=quoted[0], output=quoted[1]))
        # Neither end waits for the script: it holds both of each until that runs.
        self._held = [os.open(pipe, os.O_RDWR) for pipe in pipes]
        self.reader = open(pipes[0], "rb", buffering=0)
        self.writer = open(pipes[1], "wb", buffering=0)

    def running(self) -> None:
        """lightningd has started the script, which holds its ends now."""
        held, self._held = self._held, []
        for descriptor in held:
            os.close(descriptor)

    def send(self, message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n\n")

    def close(self) -> None:
        self.running()
        try:
            self.writer.close()
        except OSError:
            """Nobody reads it any more."""


class InlinePlugin:
    """A plugin of pyln-client whose functions run in this process, on a thread of their own."""

    def __init__(self, shim: _Shim) -> None:
        self._shim = shim
        #: Its path, as ``plugin list`` has it.
        self.path = shim.path

    def close(self) -> None:
        """Ends it, as a plugin that exits."""
        self._shim.close()


def _start(rpc: LightningRpc, shim: _Shim, work: Callable[[], None]) -> None:
    def run() -> None:
        try:
            work()
        except (OSError, ValueError):
            """The node, or the test, has ended it."""
        finally:
            # lightningd has closed its end; the script waits for the end of this one.
            shim.close()

    threading.Thread(target=run, name=shim.path.name, daemon=True).start()
    try:
        rpc.call("plugin", {"subcommand": "start", "plugin": str(shim.path)})
    except BaseException:
        shim.close()
        raise
    shim.running()


class _Input:
    """Standard input for ``Plugin.run``, which checks its environment before it reads."""

    def __init__(self, reader: Any) -> None:
        self._reader = io.BufferedReader(reader)

    @property
    def buffer(self) -> Any:
        os.environ.pop("LIGHTNINGD_PLUGIN", None)
        return self._reader


def inline(rpc: LightningRpc, folder: Path, plugin: Plugin, name: str) -> InlinePlugin:
    """Starts ``plugin`` on the node behind ``rpc``."""
    shim = _Shim(folder, name)
    plugin.stdin = _Input(shim.reader)
    plugin.stdout = io.TextIOWrapper(io.BufferedWriter(shim.writer))

    def run() -> None:
        os.environ["LIGHTNINGD_PLUGIN"] = "1"
        plugin.run()

    _start(rpc, shim, run)
    return InlinePlugin(shim)


@dataclass
class Notification:
    """What lightningd sent to plugins."""

    #: Its method: ``connect``, ``invoice_payment``, …
    topic: str
    #: What it says: the member of the topic's name where there is one, else all.
    payload: Any
    #: Its parameters, as sent.
    params: Any


class Tap:
    """The notifications of a node, recorded from its start on."""

    def __init__(self) -> None:
        #: What came so far.
        self.seen: List[Notification] = []
        self._next = 0
        self._new: "queue.Queue[Notification]" = queue.Queue()

    def expect(
        self,
        topic: str,
        where: Optional[Callable[[Any], bool]] = None,
        timeout: float = TIMEOUT,
    ) -> Notification:
        """Waits for the next notification of this topic whose payload is as ``where``
        wants it; those before it are skipped.

        :raises TimedOut: after ``timeout`` seconds, with what came instead.
        """
        start, end = self._next, time.monotonic() + timeout
        while True:
            while self._next < len(self.seen):
                one = self.seen[self._next]
                self._next += 1
                if one.topic == topic and (where is None or where(one.payload)):
                    return one
            try:
                self.seen.append(self._new.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                came = [one.topic for one in self.seen[start:]]
                raise TimedOut(f"no `{topic}` in {timeout} s; what came: {came}") from None

    def _take(self, message: Dict[str, Any]) -> None:
        params = message.get("params", {})
        topic = message["method"]
        payload = params.get(topic, params) if isinstance(params, dict) else params
        self._new.put(Notification(topic, payload, params))


def tap(rpc: LightningRpc, folder: Path, topics: Sequence[str]) -> Tap:
    """Taps the node behind ``rpc``."""
    shim, recorded = _Shim(folder, "tap"), Tap()
    manifest = {
        "options": [],
        "rpcmethods": [],
        "subscriptions": list(topics),
        "hooks": [],
        "dynamic": True,
    }

    def record() -> None:
        for message in messages(shim.reader.fileno()):
            if "id" not in message:
                recorded._take(message)
                continue
            result = manifest if message["method"] == "getmanifest" else {}
            shim.send({"jsonrpc": "2.0", "id": message["id"], "result": result})

    _start(rpc, shim, record)
    return recorded
