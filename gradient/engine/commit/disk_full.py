"""The policy for a commit that finds the disk full: raise, wait, or skip."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gradient.engine.shutdown import exit_hook
from gradient.errors import GradientIOError
from gradient.repo.branch_writer import Published
from gradient.repo.config import OnFull
from gradient.storage import fs
from gradient.storage.directory import NO_ROOM
from gradient.view.updates import ViewUpdater

_LOG = logging.getLogger("gradient")

RESERVE: Final = 256 << 10
"""Bytes that commits leave free: for notes about failed commits, and for `gradient gc`."""
_INTERVAL: Final = 10
"""Seconds between two attempts."""


class SkippedError(Exception):
    """The commit is skipped, as the policy asks; the message says why."""


@dataclass(slots=True)
class DiskFullPolicy:
    """The policy of one engine."""

    policy: OnFull
    """Raise (the default), wait for free space, or skip the commit."""
    path: str
    """The repo's folder."""
    view: ViewUpdater
    """The view; its full files are replaced by thin ones first."""
    hurried: Callable[[], bool] = lambda: False
    """Returns True if the run ends soon and cannot wait."""
    sleep: Callable[[float], object] = time.sleep

    def apply(
        self, record: Callable[[], Published], *, least: int | None = None, optional: bool = True
    ) -> Published:
        """Record a commit; `least` is the size in bytes of the run's smallest commit, if known.

        Raises SkippedError if the commit is skipped, and everything that `record` raises. A run
        that is about to end raises instead of waiting, and a commit that is not `optional` is
        never skipped.
        """
        waiting = thinned = False
        while True:
            try:
                self._check_free_space(least or 0)
                published = record()
            except GradientIOError as error:
                if error.errno not in NO_ROOM:
                    raise
                if not thinned and self.view.make_room():
                    thinned = True
                    continue
                self._raise_unless_waiting(error, optional=optional)
                if not waiting:
                    _LOG.warning("%s. The run waits for free space (on_full)", error)
                waiting = True
                self._wait(error)
                continue
            if waiting:
                _LOG.warning("the disk has free space again: the run continues")
            elif not thinned:
                self.view.has_room()
            return published

    def _check_free_space(self, least: int) -> None:
        """Refuse a commit that cannot fit before anything is written.

        Some file systems do not report their free space, or report none; there, writing fails.
        """
        try:
            free = fs.free_bytes(self.path)
        except GradientIOError as error:
            _LOG.debug("the free space is unknown: %s", error)
            return
        if 0 < free < RESERVE + least:
            size = f" of at least {least:,}" if least else ""
            text = (
                f"{free:,} bytes are free, too few for a commit{size} and a reserve of {RESERVE:,}"
            )
            raise GradientIOError("write", self.path, OSError(errno.ENOSPC, text))

    def _wait(self, error: GradientIOError) -> None:
        """Wait for the next attempt; raise if the run or the process is about to end."""
        for _ in range(_INTERVAL):
            if self.hurried() or exit_hook.has_begun():
                raise error
            self.sleep(1.0)

    def _raise_unless_waiting(self, error: GradientIOError, *, optional: bool) -> None:
        """Raise the error, or SkippedError, unless the policy is to wait."""
        if self.policy == "wait":
            return
        if self.policy == "skip" and optional:
            raise SkippedError(str(error)) from error
        others = ', or to continue without this commit: GradientConfig(on_full="wait" or "skip")'
        error.add_note(
            "To free space: gradient gc --grace 0, or gradient forget … --grace 0. To wait for it"
            + (others if optional else ': GradientConfig(on_full="wait")')
        )
        raise error
