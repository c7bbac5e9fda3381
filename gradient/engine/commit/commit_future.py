"""What becomes of a commit that is written behind the training loop.

A failure is told: by the handle, or by the engine's next call. One that nobody was told of when
the process ends makes its exit status 1, and so does a commit that was cut off.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gradient.errors import EngineClosedError, PendingError


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What is known of a commit once it is acknowledged."""

    branch: str
    """The branch it ended on."""
    id: str = ""
    """Its id; empty on a rank that does not commit, and where it was skipped."""
    type: str = "anchor"
    """``"anchor"`` or ``"delta"``."""
    path: str | None = None
    """Its view file, where there is one."""
    skipped: bool = False
    """Whether there is no such commit: the disk was full, and it was to be left out then."""


class CommitFuture:
    """Facts or a failure, once there is one. Settled by one thread; any may wait."""

    __slots__ = ("__weakref__", "_done", "error", "facts", "origin", "pid", "revision", "told")

    def __init__(self, revision: str, origin: dict[str, Any] | None = None) -> None:
        self.revision = revision
        """What was to be committed."""
        self.origin = origin
        """What the commit was to say of a warm start."""
        self.facts: CommitResult | None = None
        self.error: BaseException | None = None
        self.told = False
        """Whether somebody was told of the failure."""
        self._done = threading.Event()
        self.pid = os.getpid()
        """The process that has to answer for it."""
        _OPEN.add(self)

    @property
    def done(self) -> bool:
        """Whether it is settled."""
        return self.facts is not None or self.error is not None

    def succeed(self, facts: CommitResult) -> None:
        """Settle it well."""
        self.facts = facts
        _OPEN.discard(self)
        self._done.set()

    def fail(self, error: BaseException) -> None:
        """Settle it badly."""
        error.add_note(f"{self.revision} was written in the background when this happened")
        self.error = error
        self._done.set()

    def wait(self, timeout: float | None = None) -> CommitResult:
        """Return the facts once they are known.

        Raises what the commit failed with, PendingError after `timeout` seconds, EngineClosedError
        in a forked child, where nobody writes it.
        """
        if not self.done:
            if self.pid != os.getpid():
                raise EngineClosedError(
                    f"{self.revision} was being written by the process that forked this one"
                )
            if not self._done.wait(timeout):
                raise PendingError(f"{self.revision} is not written yet after {timeout} seconds")
        if self.facts is None:
            raise self.tell()
        return self.facts

    def tell(self) -> BaseException:
        """Return the failure for somebody to raise."""
        assert self.error is not None
        self.told = True
        _OPEN.discard(self)
        return self.error


_OPEN: Final[set[CommitFuture]] = set()
"""What is not settled, or a failure that nobody was told of."""


class _LastWord:
    """Ends the process with status 1 for a commit that is not made, if nobody was told.

    It speaks when the interpreter takes this module apart: after all the threads, exit handlers
    and streams of others had their turn, which an exit any earlier would take from them.
    """

    def __init__(self) -> None:
        # Its own references: the module's names may be gone by then.
        self._open = _OPEN
        self._process: Callable[[], int] = os.getpid
        self._leave: Callable[[int], object] = os._exit

    def __del__(self) -> None:
        process = self._process()
        if any(outcome.pid == process for outcome in self._open):
            self._leave(1)


_last_word: Final = _LastWord()
