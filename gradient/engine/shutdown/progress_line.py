"""The one line that an engine shows by itself: that a process which is to end is still writing."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Final, Self

INTERVAL: Final = 1.0
"""Seconds after which a wait is worth the line, and between two changes of it."""


class ProgressLine:
    """Shows on standard error, where that is a terminal, what is waited for. Never raises."""

    def __init__(self) -> None:
        self._is_shown = _is_terminal()
        self._begun = time.monotonic()
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            self._draw(f"the last commits took {self._seconds} s", "\n")

    def show(self, commits: int) -> None:
        """Say how many commits are left."""
        if not self._is_shown:
            return
        self._draw(f"{still_written(commits)}, {self._seconds} s")

    @property
    def _seconds(self) -> int:
        return round(time.monotonic() - self._begun)

    def _draw(self, text: str, end: str = "") -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            sys.stderr.write(f"\rgradient: {text.ljust(self._width)}{end}")
            sys.stderr.flush()
        self._width = len(text)


def still_written(commits: int) -> str:
    """Say how many commits are left."""
    what = "1 commit is" if commits == 1 else f"{commits} commits are"
    return f"{what} still being written"


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it was closed
        return False
