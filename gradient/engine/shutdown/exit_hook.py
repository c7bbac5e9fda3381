"""The end of the process, as far as commits are still written then.

The interpreter waits for the thread that writes them, and says nothing while it does. Just before
that it calls what is registered here: so there is a line on the terminal.
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
    """What may have something left to write."""

    @property
    def unfinished(self) -> int:
        """How many commits."""

    def finish(self) -> None:
        """Return when nothing is left; show it."""


_writing: Final[WeakKeyDictionary[PendingWrites, int]] = WeakKeyDictionary()
_begun: Final = threading.Event()


def wait_for(unfinished: PendingWrites) -> None:
    """Have something finish visibly when the process ends, if it is there by then."""
    _writing[unfinished] = os.getpid()


def has_begun() -> bool:
    """Whether the script has ended, and the process does once everything is written."""
    return _begun.is_set() or not threading.main_thread().is_alive()


def waits_for_threads() -> bool:
    """Whether the process waits for a thread that the caller starts: not in its exit handlers."""
    return not (_begun.is_set() and threading.current_thread() is threading.main_thread())


def _finish() -> None:
    _begun.set()
    own = [each for each, pid in [*_writing.items()] if pid == os.getpid()]  # none of a parent's
    with _asked_twice(own):
        for unfinished in own:
            while True:
                try:
                    unfinished.finish()
                    break
                except (KeyboardInterrupt, SystemExit):
                    continue  # raised by a handler of the script's, which has ended already


@contextmanager
def _asked_twice(writing: Iterable[PendingWrites]) -> Iterator[None]:
    """Let the first Ctrl-C say what a second one costs: that one ends the process at once.

    A launcher may pass on what the terminal has delivered as well, and the first may be meant for
    the script, which has just ended: so one is not enough to give commits up.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # it is ignored, or the script's own
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


# The interpreter's own hook, as the executors of `concurrent.futures` use it: `atexit` is called
# after the threads were waited for, and `main_thread().join()` disturbs the end.
threading._register_atexit(_finish)  # type: ignore[attr-defined]
