"""The end of the process, as far as commits are still written then.

The interpreter waits for the thread that writes them, and says nothing while it does. Just before
that it calls what is registered here: so there is a line on the terminal.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol
from weakref import WeakKeyDictionary


class Unfinished(Protocol):
    """What may have something left to write."""

    def finish(self) -> None:
        """Return when nothing is left; show it."""


_writing: Final[WeakKeyDictionary[Unfinished, int]] = WeakKeyDictionary()
_begun: Final = threading.Event()


def wait_for(unfinished: Unfinished) -> None:
    """Have something finish visibly when the process ends, if it is there by then."""
    _writing[unfinished] = os.getpid()


def has_begun() -> bool:
    """Whether the script has ended, and the process does once everything is written."""
    return _begun.is_set() or not threading.main_thread().is_alive()


def _finish() -> None:
    _begun.set()
    for unfinished, pid in [*_writing.items()]:
        if pid == os.getpid():  # a forked child writes nothing of its parent's
            unfinished.finish()


# The interpreter's own hook, as the executors of `concurrent.futures` use it: `atexit` is called
# after the threads were waited for, and `main_thread().join()` disturbs the end.
threading._register_atexit(_finish)  # type: ignore[attr-defined]
