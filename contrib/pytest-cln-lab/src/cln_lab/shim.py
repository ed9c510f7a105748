"""``pyln.testing``, as its tests import it, served from here."""

from __future__ import annotations

import importlib
import sys


def install() -> None:
    """From now on ``import pyln.testing`` finds this package's modules.

    :raises ImportError: if pyln-testing's own are imported already.
    """
    ours = importlib.import_module("cln_lab.pyln_testing")
    there = sys.modules.get("pyln.testing")
    if there is ours:
        return
    if there is not None:
        raise ImportError(
            "cln_lab comes too late: pyln.testing is imported already; "
            "use `pytest -p cln_lab` or CLN_LAB=1, which come before conftest.py"
        )
    pyln = importlib.import_module("pyln")
    sys.modules["pyln.testing"] = ours
    setattr(pyln, "testing", ours)
    for name in ("utils", "fixtures", "db", "btcproxy"):
        module = importlib.import_module(f"cln_lab.pyln_testing.{name}")
        sys.modules[f"pyln.testing.{name}"] = module
