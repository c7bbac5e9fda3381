"""A file system that fails at chosen calls, and records its calls."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gradient.storage import fs


class Fault:
    """Lets `after` calls pass; then the next fails, or all that follow do.

    `errno` None means a short write: one byte is written, and the caller must go on.
    """

    def __init__(self, after: int, errno: int | None, *, persistent: bool) -> None:
        self._left = after
        self._errno = errno
        self._persistent = persistent
        self.hits = 0

    def __call__(self, call: fs.Call) -> int | None:
        if self._errno is None and call.operation != "write":
            return None
        self._left -= 1
        if self._left == -1 or (self._left < -1 and self._persistent):
            self.hits += 1
            if self._errno is None:
                return 1
            raise OSError(self._errno, os.strerror(self._errno))
        return None


@contextmanager
def observed(observer: fs.Observer) -> Iterator[None]:
    before, fs.calls.observer = fs.calls.observer, observer
    try:
        yield
    finally:
        fs.calls.observer = before


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls by operation."""
    counts: Counter[str] = Counter()

    def count(call: fs.Call) -> None:
        counts[call.operation] += 1

    with observed(count):
        yield counts
