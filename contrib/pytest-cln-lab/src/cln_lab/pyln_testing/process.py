"""A process and its log, as pyln-testing has them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

from ..log import Log
from ..serve import Refused, ask, describe, node_in
from ..wait import TIMEOUT, TimedOut, wait_for


class Proc:
    """A process that the lab holds, in the words of ``subprocess.Popen``."""

    def __init__(self, lab: Union[str, Path], node: Optional[str]) -> None:
        self._lab, self._node = lab, node
        #: Its exit code; ``None`` while it runs.
        self.returncode: Optional[int] = None
        self._pid = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._node is None:
            return int(describe(self._lab)["bitcoind"]["pid"])
        self._pid = node_in(self._lab, self._node)["pid"] or self._pid
        return self._pid

    def wait(self, timeout: Optional[float] = None) -> int:
        """Waits until it ends; its exit code.

        :raises subprocess.TimeoutExpired: if it does not in ``timeout`` seconds.
        """
        if self.returncode is not None:
            return self.returncode
        within = TIMEOUT if timeout is None else timeout
        try:
            if self._node is None:
                wait_for(lambda: not _runs(self.pid), within)
                self.returncode = 0
            else:
                status = ask(self._lab, "wait", node=self._node, seconds=within)
                self.returncode = os.waitstatus_to_exitcode(status)
        except (Refused, TimedOut):
            raise subprocess.TimeoutExpired(str(self._node or "bitcoind"), within) from None
        return self.returncode

    def poll(self) -> Optional[int]:
        """Its exit code; ``None`` while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it runs."""
        if self.returncode is None and self.pid:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                """It has just ended."""

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class TailableProc:
    """A process whose log can be searched."""

    def __init__(self, outputDir: str, verbose: bool = True) -> None:
        self.outputDir = outputDir
        self.verbose = verbose
        #: Its environment.
        self.env: Dict[str, str] = os.environ.copy()
        self.proc: Optional[Any] = None
        self.prefix = ""
        self.log = Log(os.path.join(outputDir, "log"))
        self.stderr = Log(os.path.join(outputDir, "errlog"))

    @property
    def logs(self) -> List[str]:
        """The log's lines so far."""
        return self.log.lines

    @property
    def err_logs(self) -> List[str]:
        """The lines of standard error so far."""
        return self.stderr.lines

    @property
    def logsearch_start(self) -> int:
        """Where the next ``wait_for_log`` starts."""
        return self.log.next

    @logsearch_start.setter
    def logsearch_start(self, line: int) -> None:
        self.log.next = line

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.proc is not None and self.proc.poll() is None

    def start(
        self, stdin: Any = None, stdout_redir: bool = True, stderr_redir: bool = True
    ) -> None:
        """Starts ``cmd_line``, with its output in ``outputDir``."""
        with open(self.log.path, "ab") as out, open(self.stderr.path, "ab") as err:
            self.proc = subprocess.Popen(
                self.cmd_line,  # type: ignore[attr-defined]
                stdin=stdin,
                stdout=out if stdout_redir else None,
                stderr=err if stderr_redir else None,
                env=self.env,
            )

    def stop(self, timeout: float = 10) -> int:
        """Sends SIGTERM, and after ``timeout`` SIGKILL; its exit code."""
        assert self.proc is not None
        self.proc.terminate()
        try:
            self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        code: int = self.proc.returncode
        return code

    def kill(self) -> None:
        """Kills it without warning."""
        assert self.proc is not None
        self.proc.kill()
        self.proc.wait()

    def cleanup_files(self) -> None:
        """No file stays open."""

    def logs_catchup(self) -> bool:
        """Reads what was logged since; whether there was a line."""
        there = self.log.catch_up()
        return self.stderr.catch_up() or there

    def is_in_log(self, regex: str, start: int = 0) -> Optional[str]:
        """The first line from ``start`` on in which this is found."""
        return self.log.find(regex, start)

    def is_in_stderr(self, regex: str) -> Optional[str]:
        """The first line of standard error in which this is found."""
        return self.stderr.find(regex)

    def wait_for_logs(self, regexs: Sequence[str], timeout: Optional[float] = TIMEOUT) -> str:
        """Waits until each of these is found, from ``logsearch_start`` on; the last line."""
        return self.log.wait_for_all(regexs, timeout)

    def wait_for_log(self, regex: str, timeout: Optional[float] = TIMEOUT) -> str:
        """Waits until this is found, from ``logsearch_start`` on; the line."""
        return self.log.wait_for(regex, timeout)
