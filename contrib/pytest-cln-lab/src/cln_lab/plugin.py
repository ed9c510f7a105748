"""The pytest plugin: the fixture ``lab``, and reports of what failed."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any, Generator, Iterator, List

import pytest

from .lab import Lab
from .serve import Failed, LabError, Server, ask, program

if os.environ.get("CLN_LAB", "0") not in ("", "0"):
    from . import shim

    shim.install()

#: The folders of the labs that a test has.
LABS = pytest.StashKey[List[Path]]()
#: Whether a test has failed so far.
FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def lab_server() -> Iterator[Server]:
    """The process that holds this process's labs."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def lab(lab_server: Server, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab with bitcoind and no node yet; at its end it fails the test for what must not
    go wrong whatever a test asserts: a BROKEN line, a crash, a plugin that died."""
    lab = Lab(lab_server)
    watch(request.node, lab.dir)
    yield lab
    if not lab.is_down:
        end(lab_server, request.node, lab.dir)


def watch(item: Any, lab: Path) -> None:
    """Reports on this lab if the test fails."""
    item.stash.setdefault(LABS, []).append(lab)


def end(server: Server, item: Any, lab: Path) -> None:
    """Ends a test's lab. Its folder stays if the test has failed."""
    try:
        ask(lab, "down", keep=item.stash.get(FAILED, False))
    except Failed as failed:
        pytest.fail(f"{failed}\n\n{server.stderr()}", pytrace=False)
    server.stderr()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    # Where a conftest.py has not set it, as pyln-testing's fixtures want it.
    if not hasattr(item, f"rep_{report.when}"):
        setattr(item, f"rep_{report.when}", report)
    if not report.failed:
        return
    first = not item.stash.get(FAILED, False)
    item.stash[FAILED] = True
    for lab in item.stash.get(LABS, []) if first else []:
        try:
            text, again, _ = ask(lab, "report").partition("  to run it again:\n")
            # The report names the process that has the lab: `lab serve`.
            text += again and f"{again}    pytest {shlex.quote(item.nodeid)}\n"
            text += trace(lab)
            report.sections.append((f"lab in {lab}, whose folder stays", text))
        except LabError:
            """It has ended, and said why."""


def trace(lab: Path) -> str:
    """Writes the page of a lab whose test has failed; where it is, for the report."""
    page = lab / "trace.html"
    command = [program(), "trace", str(lab), "--html", str(page)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        # With LAB_TRACE=off there is none.
        return ""
    return f"  who sent what to whom, as a page:\n    {page}\n"
