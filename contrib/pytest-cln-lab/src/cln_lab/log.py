"""A log file that grows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Optional, Sequence, Union

from .wait import TIMEOUT, TimedOut, wait_for


class Log:
    """A log file, by lines."""

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path)
        #: Its lines so far, without their ends: see :meth:`catch_up`.
        self.lines: List[str] = []
        #: Where the next :meth:`wait_for` starts: after the last line that one found.
        self.next = 0
        self._offset = 0
        self._rest = b""

    def catch_up(self) -> bool:
        """Reads what was written since the last time; whether there was a line."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return False
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        self.lines += [line.decode("utf-8", "replace").rstrip() for line in lines]
        return bool(lines)

    def find(self, regex: str, start: int = 0) -> Optional[str]:
        """The first line from ``start`` on in which this is found."""
        self.catch_up()
        expression = re.compile(regex)
        return next((line for line in self.lines[start:] if expression.search(line)), None)

    def wait_for_all(self, regexes: Sequence[str], timeout: Optional[float] = TIMEOUT) -> str:
        """Waits until each of these was found, in any order, each in a line of its own;
        the last line found.

        :raises TimedOut: after ``timeout`` seconds; ``None`` waits for ever.
        """
        missing = [re.compile(regex) for regex in regexes]
        found = ""

        def look() -> bool:
            nonlocal found
            while missing:
                if self.next >= len(self.lines) and not self.catch_up():
                    return False
                while missing and self.next < len(self.lines):
                    line = self.lines[self.next]
                    self.next += 1
                    for expression in missing:
                        if expression.search(line):
                            missing.remove(expression)
                            found = line
                            break
            return True

        try:
            wait_for(look, 10**9 if timeout is None else timeout)
        except TimedOut:
            patterns = [expression.pattern for expression in missing]
            before = [p for p in patterns if any(re.search(p, line) for line in self.lines)]
            note = f"; before that there were {before}" if before else ""
            raise TimedOut(
                f'Unable to find "{patterns}" in {self.path} in {timeout} s{note}'
            ) from None
        return found

    def wait_for(self, regex: str, timeout: Optional[float] = TIMEOUT) -> str:
        """Waits until this is found in a line, and returns the line.

        :raises TimedOut: after ``timeout`` seconds; ``None`` waits for ever.
        """
        return self.wait_for_all([regex], timeout)
