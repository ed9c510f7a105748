"""``lab serve``, the process that holds the labs: found, started, asked."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ._version import __version__

#: A line of a configuration: a name, and a value if it takes one.
Option = Tuple[str, Optional[str]]

#: Of `lab serve`'s lines.
PROTOCOL = 1

#: How long it may take to start, and to start a lab, in seconds: the very first one makes a chain.
START, UP = 30.0, 180.0


def scaled(seconds: float) -> float:
    """For a slow machine: times ``LAB_TIMEOUT_FACTOR``, as in the lab itself."""
    return seconds * max(float(os.environ.get("LAB_TIMEOUT_FACTOR") or 1), 0.01)


class LabError(Exception):
    """The lab could not do what was asked."""


class Refused(LabError):
    """It was not done."""


class Failed(LabError):
    """It was done, but something went wrong."""


def program() -> str:
    """The command ``lab``: ``LAB``, else on the PATH, else in the workspace's ``target``.

    :raises LabError: if it is not found.
    """
    named = os.environ.get("LAB")
    if named:
        found = shutil.which(named)
        if found is None:
            raise LabError(f"LAB={named} is no executable file: correct it, or unset it")
        return found
    on_path = shutil.which("lab")
    if on_path:
        return on_path
    for folder in [*Path(__file__).resolve().parents, *Path.cwd().resolve().parents]:
        for profile in ("release", "debug"):
            built = folder / "target" / profile / "lab"
            if (folder / "lab" / "command").is_dir() and os.access(built, os.X_OK):
                return str(built)
    raise LabError(
        "the command `lab` is not found: tried LAB, the PATH, and target/ of the workspace; "
        "run `make build` in cln-lab, and put target/debug on the PATH, or set LAB to it"
    )


class Server:
    """A ``lab serve``. It ends with this process, whatever ends that, and all its labs with it."""

    #: The environment that its nodes inherit, as it was at its start.
    inherited: ClassVar[Dict[str, str]] = {}

    def __init__(self) -> None:
        self.program = program()
        Server.inherited = dict(os.environ)
        # One that is taken again: for what it has said of a failed request.
        self._lock = threading.RLock()
        # What a failing lab reports; a pipe could be full.
        self._stderr = tempfile.TemporaryFile()
        self._read_to = 0
        self._process = subprocess.Popen(
            [self.program, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # The embedded node only where it is asked for.
            env={**os.environ, "LAB_NODE": os.environ.get("LAB_NODE") or "lightningd"},
            # Ctrl-C is for pytest, which ends the labs.
            start_new_session=True,
        )
        try:
            hello = self._read("say that it serves", START)
            if hello.get("serve") != PROTOCOL or not isinstance(hello.get("version"), str):
                raise LabError(
                    f"{self.program} speaks another protocol than pytest-cln-lab {__version__}: "
                    f"{hello}"
                )
        except LabError:
            self._process.kill()
            self.close()
            raise
        if hello["version"].split(".")[:2] != __version__.split(".")[:2]:
            warnings.warn(
                f"{self.program} is of version {hello['version']}, pytest-cln-lab of {__version__}: "
                "take both from one release"
            )
        #: What its nodes are by default, such as ``lightningd v26.06.6``; ``None`` if none is found.
        self.node: Optional[str] = hello.get("node")

    def _read(self, what: str, within: float) -> Dict[str, Any]:
        assert self._process.stdout is not None
        within = scaled(within)
        # It writes whole lines, and one for each request.
        if not select.select([self._process.stdout], [], [], within)[0]:
            self._process.kill()
            why = f"nothing came in {within:.0f} s, and it was killed"
            raise LabError(f"`{self.program} serve` did not {what}: {why}\n{self.stderr()}")
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise LabError(f"`{self.program} serve` did not {what}: {status}\n{self.stderr()}")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise LabError(f"`{self.program} serve` did not {what}, but wrote {line!r}: is it `lab`?")
        return answer

    def stderr(self) -> str:
        """What it wrote to standard error since the last time."""
        # The file's offset is one for both processes.
        with self._lock:
            end = os.lseek(self._stderr.fileno(), 0, os.SEEK_CUR)
            start, self._read_to = self._read_to, end
            return os.pread(self._stderr.fileno(), end - start, start).decode("utf-8", "replace")

    def up(
        self,
        nodes: Sequence[Dict[str, Any]] = (),
        bitcoind: Sequence[Tuple[str, str]] = (),
        gates: bool = True,
    ) -> Path:
        """Starts a lab; its folder.

        :raises LabError: with the lab's reason.
        """
        request = {"do": "up", "nodes": list(nodes), "bitcoind": list(bitcoind), "gates": gates}
        with self._lock:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                pass
            answer = self._read("start a lab", UP)
        if "failed" in answer:
            raise LabError(answer["failed"])
        return Path(answer["done"]["dir"])

    def close(self) -> None:
        """Ends it and every lab that it holds."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            """It has ended already."""
        try:
            self._process.wait(scaled(UP))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._stderr.close()


def changed(environment: Mapping[str, str]) -> Dict[str, str]:
    """What a test has set in the environment, which a node would not inherit."""
    inherited = {**Server.inherited, "PYTEST_CURRENT_TEST": environment.get("PYTEST_CURRENT_TEST")}
    return {name: value for name, value in environment.items() if inherited.get(name) != value}


def ask(lab: Union[str, Path], do: str, **request: Any) -> Any:
    """Asks the process that holds the lab in this folder: ``lab serve --help`` lists what.

    :raises Refused: if it was not done.
    :raises Failed: if it was done, but something went wrong.
    """
    line = json.dumps({"do": do, **request}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(Path(lab) / "lab.sock"))
            connection.sendall(line)
            text = connection.makefile("rb").readline()
        except OSError as error:
            raise LabError(f"the lab in {lab} cannot be asked for `{do}`: {error}") from error
    if not text:
        raise LabError(f"the lab in {lab} ended before it answered `{do}`")
    answer = json.loads(text)
    if "refused" in answer:
        raise Refused(answer["refused"])
    if "failed" in answer:
        raise Failed(answer["failed"])
    return answer["done"]


def describe(lab: Union[str, Path]) -> Dict[str, Any]:
    """What runs in the lab in this folder, and where."""
    description: Dict[str, Any] = json.loads((Path(lab) / "lab.json").read_text())
    return description


def node_in(lab: Union[str, Path], name: str) -> Dict[str, Any]:
    """What is said of the node of this name."""
    nodes: List[Dict[str, Any]] = describe(lab)["nodes"]
    return next(node for node in nodes if node["name"] == name)
