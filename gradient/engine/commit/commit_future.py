"""The result of a background commit: available once it is written.

The revision handle or the engine's next call reports a failure. If neither does before the process
ends, the exit status is 1; the same holds for a commit that was cut off
(`engine/shutdown/exit_status.py`).
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from gradient.engine.shutdown.exit_status import OPEN
from gradient.errors import EngineClosedError, PendingError


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The facts about an acknowledged commit."""

    branch: str
    """The branch that it was published on."""
    id: str = ""
    """Its id; empty on a rank that does not commit, and for a skipped commit."""
    type: str = "anchor"
    """``"anchor"`` or ``"delta"``."""
    path: str | None = None
    """Its view file, if it has one."""
    skipped: bool = False
    """True if the commit was skipped because the disk was full."""


class CommitFuture:
    """A result or an error, once there is one. One thread settles it; any thread may wait."""

    __slots__ = ("__weakref__", "_done", "error", "origin", "pid", "reported", "result", "revision")

    def __init__(self, revision: str, origin: dict[str, Any] | None = None) -> None:
        self.revision = revision
        """The revision to be committed."""
        self.origin = origin
        """The source of a warm start, which the commit is to record."""
        self.result: CommitResult | None = None
        self.error: BaseException | None = None
        self.reported = False
        """True once the failure was raised somewhere."""
        self._done = threading.Event()
        self.pid = os.getpid()
        """The process that is responsible for the commit."""
        OPEN.add(self)

    @property
    def done(self) -> bool:
        """True once it is settled."""
        return self.result is not None or self.error is not None

    def succeed(self, result: CommitResult) -> None:
        """Settle it with a result."""
        self.result = result
        OPEN.discard(self)
        self._done.set()

    def fail(self, error: BaseException) -> None:
        """Settle it with an error."""
        error.add_note(f"{self.revision} was written in the background when this happened")
        self.error = error
        self._done.set()

    def wait(self, timeout: float | None = None) -> CommitResult:
        """Return the result once it is known.

        Raises the error of a failed commit, PendingError after `timeout` seconds, and
        EngineClosedError in a forked child, which does not write the commit.
        """
        if not self.done:
            if self.pid != os.getpid():
                raise EngineClosedError(
                    f"{self.revision} was being written by the process that forked this one"
                )
            if not self._done.wait(timeout):
                raise PendingError(f"{self.revision} is not written yet after {timeout} seconds")
        if self.result is None:
            raise self.take_error()
        return self.result

    def take_error(self) -> BaseException:
        """Return the error to raise, and mark it as reported."""
        assert self.error is not None
        self.reported = True
        OPEN.discard(self)
        return self.error
