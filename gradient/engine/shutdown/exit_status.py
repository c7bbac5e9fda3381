"""The exit status of a process whose background commits failed without a report.

`CommitFuture` adds itself to `OPEN` and removes itself once it is settled and reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol


class Unreported(Protocol):
    """A background commit that is pending, or failed without a report."""

    pid: int
    """The process that is responsible for it."""


OPEN: Final[set[Unreported]] = set()
"""Commits that are pending, and failures that were not reported."""


class _ExitStatus:
    """Ends the process with status 1 if a commit failed or was cut off, and nothing reported it.

    The interpreter deletes this object when it tears down the module: after all threads, exit
    handlers and streams have ended. Exiting earlier would cut them off.
    """

    def __init__(self) -> None:
        # References of its own, because the module's names may be gone by then.
        self._open = OPEN
        self._process: Callable[[], int] = os.getpid
        self._exit: Callable[[int], object] = os._exit

    def __del__(self) -> None:
        process = self._process()
        if any(commit.pid == process for commit in self._open):
            self._exit(1)


_exit_status: Final = _ExitStatus()
