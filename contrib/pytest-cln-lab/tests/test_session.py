"""Whole runs of pytest: what fails, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest

from cln_lab import wait_for


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: those of sockets have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        yield Path(folder)


def run(folder: Path, text: str, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    started = start(folder, text, *args, **env)
    out, _ = started.communicate(timeout=60)
    return subprocess.CompletedProcess(args, started.returncode, out)


def start(folder: Path, text: str, *args: str, **env: str) -> "subprocess.Popen[str]":
    (folder / "tmp").mkdir(exist_ok=True)
    test = folder / "test_it.py"
    test.write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "cln_lab.plugin",
        *args,
        str(test),
    ]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**clean, "TMPDIR": str(folder / "tmp"), "CLN_LAB": "0", **env},
    )


def left(folder: Path) -> List[str]:
    return [path.name for path in (folder / "tmp").glob("cln-lab-*")]


DIES = '''
def test_dies(lab, tmp_path):
    plugin = tmp_path / "dies.py"
    plugin.write_text("""#!/usr/bin/env python3
import os
from pyln.client import Plugin
plugin = Plugin()
@plugin.subscribe("connect")
def connect(plugin, **kwargs):
    os._exit(1)
plugin.run()
""")
    plugin.chmod(0o700)
    l1, l2 = lab.add_nodes(2, plugins=[plugin])
    l1.connect(l2)
    l1.log.wait_for("Killing plugin")
'''


def test_a_dead_plugin_fails_its_test(folder: Path) -> None:
    said = run(folder, DIES)
    assert said.returncode == 1 and "1 passed, 1 error" in said.stdout, said.stdout
    assert "plugin dies.py died" in said.stdout and "the ends of the logs" in said.stdout
    assert len(left(folder)) == 1


def test_a_failed_test_has_a_report_and_keeps_its_folder(folder: Path) -> None:
    text = "def test_it(lab):\n    lab.add_node('carol')\n    assert False\n"
    said = run(folder, text)
    assert "whose folder stays" in said.stdout and "carol" in said.stdout, said.stdout
    assert "    pytest test_it.py::test_it\n" in said.stdout, said.stdout
    (lab,) = left(folder)
    assert (folder / "tmp" / lab / "carol" / "log").exists()
    page = folder / "tmp" / lab / "trace.html"
    assert str(page) in said.stdout and "carol" in page.read_text(), said.stdout


WAITS = """
import os, time
from pyln.testing.fixtures import *

def test_waits(node_factory):
    node = node_factory.get_node()
    with open("started.new", "w") as file:
        file.write(f"{os.getpid()} {node.daemon.proc.pid}")
    os.rename("started.new", "started")
    time.sleep(600)
"""


def test_nothing_is_left_after_ctrl_c_and_kill_9(folder: Path) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        running = start(folder, WAITS, CLN_LAB="1")
        started = folder / "started"
        wait_for(lambda: started.exists() or running.poll() is not None)
        assert running.poll() is None, running.communicate()[0]
        node = started.read_text().split()[1]
        running.send_signal(number)
        running.communicate()
        wait_for(lambda: not left(folder) and not Path(f"/proc/{node}").exists(), 20)
        started.unlink()


def test_a_lab_serve_that_died_or_is_silent_is_reported(folder: Path) -> None:
    text = """
import os, signal
def test_it(lab_server):
    os.kill(lab_server._process.pid, signal.SIGKILL)
    lab_server.up()
"""
    said = run(folder, text)
    assert said.returncode == 1 and "did not start a lab: -9" in said.stdout, said.stdout
    fake = folder / "lab"
    fake.touch(0o700)
    fakes = {
        "did not say that it serves: nothing came in 2 s": "exec sleep 600",
        "did not start a lab: nothing came in 9 s": (
            'echo \'{"serve":1,"version":"0.1.0","node":null}\'\nexec sleep 600'
        ),
        "but wrote b'hello": "echo hello",
    }
    for what, does in fakes.items():
        fake.write_text(f"#!/bin/sh\n{does}\n")
        said = run(folder, text.replace("os.kill", "0 and os.kill"), LAB=str(fake), LAB_TIMEOUT_FACTOR="0.05")
        assert said.returncode == 1 and what in said.stdout, said.stdout


HARNESS = """
import os, time
from cln_lab import PluginHarness

def test_waits(tmp_path):
    path = tmp_path / "plugin"
    path.write_text('''#!/usr/bin/env python3
import os, sys, time
print('{"id":"harness:getmanifest#1","result":{}}', flush=True)
print('{"id":"harness:init#2","result":{}}', flush=True)
open(os.environ["PID"], "w").write(str(os.getpid()))
time.sleep(600)
''')
    path.chmod(0o700)
    PluginHarness(path)
    time.sleep(600)
"""


def test_a_harness_leaves_nothing_when_pytest_is_killed(folder: Path) -> None:
    pid = folder / "pid"
    running = start(folder, HARNESS, PID=str(pid))
    wait_for(lambda: pid.exists() and pid.read_text() or running.poll() is not None)
    assert running.poll() is None and len(left(folder)) == 1
    running.kill()
    running.communicate()
    gone = Path(f"/proc/{pid.read_text()}")
    wait_for(lambda: not left(folder) and not gone.exists(), 20)


def test_what_is_wrong_is_said_in_one_line(folder: Path) -> None:
    fake = folder / "lab"
    wrongs: Dict[str, Optional[Dict[str, Any]]] = {
        "LAB=/nowhere is no executable file": {"LAB": "/nowhere"},
        "speaks another protocol": {"LAB": str(fake)},
        "VALGRIND=1 is not to be had with cln_lab": {"VALGRIND": "1"},
    }
    fake.write_text('#!/bin/sh\necho \'{"serve":2,"version":"9.0.0","node":null}\'\ncat\n')
    fake.chmod(0o700)
    text = "from pyln.testing.fixtures import *\ndef test_it(node_factory):\n    pass\n"
    for what, env in wrongs.items():
        said = run(folder, text, "-p", "cln_lab", **(env or {}))
        assert said.returncode == 1 and what in said.stdout, said.stdout
    fake.write_text('#!/bin/sh\necho \'{"serve":1,"version":"9.0.0","node":null}\'\ncat\n')
    said = run(folder, "def test_it(lab_server):\n    pass\n", LAB=str(fake))
    assert said.returncode == 0 and "of version 9.0.0, pytest-cln-lab of" in said.stdout
