"""The one way to wait for a condition."""

from __future__ import annotations

import os
import time
from typing import Callable, Optional, TypeVar

#: How long a test waits by default, in seconds.
TIMEOUT = int(os.environ.get("TIMEOUT", 180 if os.environ.get("SLOW_MACHINE") == "1" else 60))

T = TypeVar("T")


class TimedOut(TimeoutError, ValueError):
    """Something did not happen in time. pyln-testing raises now the one, now the other."""


def wait_for(success: Callable[[], T], timeout: float = TIMEOUT, what: Optional[str] = None) -> T:
    """Waits until ``success()`` is true, and returns what it returned.

    It looks again after 2 ms, and then ever more slowly, up to every 100 ms.

    :raises TimedOut: after ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = success()
        if value:
            return value
        left = end - time.monotonic()
        if left <= 0:
            raise TimedOut(f"Timeout while waiting for {what or success}, after {timeout} s")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.1)
