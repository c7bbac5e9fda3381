"""The exit hook that waits for background commits, with a progress line on the terminal.

The interpreter waits for the thread that writes them without showing anything. It calls this hook
just before that.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from gradient.engine.shutdown.progress_line import still_written

_LOG = logging.getLogger("gradient")


class PendingWrites(Protocol):
    """An object with commits that may still be written."""

    @property
    def unfinished(self) -> int:
        """The number of unfinished commits."""

    def finish(self) -> None:
        """Wait until all are written, and show progress."""


_writing: Final[WeakKeyDictionary[PendingWrites, int]] = WeakKeyDictionary()
_begun: Final = threading.Event()


def wait_for(writes: PendingWrites) -> None:
    """Finish these writes at the end of the process, if the object still exists."""
    _writing[writes] = os.getpid()


def has_begun() -> bool:
    """Return whether the script has ended and the process ends once everything is written."""
    return _begun.is_set() or not threading.main_thread().is_alive()


def waits_for_threads() -> bool:
    """Return whether the process waits for threads started now: not in its exit handlers."""
    return not (_begun.is_set() and threading.current_thread() is threading.main_thread())


def _finish() -> None:
    _begun.set()
    own = [
        each for each, pid in [*_writing.items()] if pid == os.getpid()
    ]  # not those of a parent process
    with _asked_twice(own):
        for writes in own:
            while True:
                try:
                    writes.finish()
                    break
                except (KeyboardInterrupt, SystemExit):
                    continue  # raised by a signal handler of the script, which has ended already


@contextmanager
def _asked_twice(writing: Iterable[PendingWrites]) -> Iterator[None]:
    """Warn at the first Ctrl-C; the second one ends the process at once.

    One Ctrl-C is not enough to lose commits: it may be meant for the script, which has just ended,
    and a launcher may forward a Ctrl-C that the terminal has delivered already.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # SIGINT is ignored, or handled by the script
        return

    def warn(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        left = still_written(sum(each.unfinished for each in writing))
        _LOG.warning("%s; Ctrl-C once more ends the process without them", left)

    signal.signal(signal.SIGINT, warn)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# The hook that `concurrent.futures` uses: `atexit` handlers run only after the interpreter has
# waited for threads, and `main_thread().join()` disturbs the shutdown.
threading._register_atexit(_finish)  # type: ignore[attr-defined]
