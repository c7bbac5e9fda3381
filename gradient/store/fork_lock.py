"""A lock that survives a fork."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet


class ForkLock:
    """A re-entrant lock that is free in a forked child, even if a thread of the parent held it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Free the lock, whichever thread holds it."""
        self._lock = threading.RLock()


_LOCKS: WeakSet[ForkLock] = WeakSet()


def _renew_locks() -> None:
    for lock in _LOCKS:
        lock.renew()


os.register_at_fork(after_in_child=_renew_locks)
