"""The progress line that a terminal shows while the last commits are written."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Final, Self

INTERVAL: Final = 1.0
"""Seconds before the line appears, and between two updates."""


class ProgressLine:
    """Shows the pending commits on standard error if that is a terminal. Never raises."""

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
        """Show the number of pending commits."""
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
    """Return the text for a number of pending commits."""
    what = "1 commit is" if commits == 1 else f"{commits} commits are"
    return f"{what} still being written"


def _is_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it was closed
        return False
