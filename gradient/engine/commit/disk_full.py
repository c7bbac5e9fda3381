"""What becomes of a commit for which the disk has no room."""

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
"""Bytes that are left alone: for a note of what is missing, and for what makes room again."""
_INTERVAL: Final = 10
"""Seconds between two tries."""


class SkippedError(Exception):
    """The commit is left out, as was asked for; the text says why."""


@dataclass(slots=True)
class DiskFullPolicy:
    """What one engine does on a full disk."""

    policy: OnFull
    """Raise (the default), wait for room, or skip the commit."""
    path: str
    """The repo's folder."""
    view: ViewUpdater
    """Its full files turn thin first."""
    hurried: Callable[[], bool] = lambda: False
    """Whether the run is to end soon, so that it can not wait."""
    sleep: Callable[[float], object] = time.sleep

    def fit(
        self, work: Callable[[], Published], *, least: int | None = None, optional: bool = True
    ) -> Published:
        """Make a commit; `least` is what the smallest of this run took, where that is known.

        Raises SkippedError where it is left out, and what `work` raises: also instead of waiting,
        where the run is to end, and instead of leaving out what is not `optional`.
        """
        waiting = thinned = False
        while True:
            try:
                self._look(least or 0)
                published = work()
            except GradientIOError as error:
                if error.errno not in NO_ROOM:
                    raise
                if not thinned and self.view.make_room():
                    thinned = True
                    continue
                self._refuse(error, optional=optional)
                if not waiting:
                    _LOG.warning("%s. The run waits for room (on_full)", error)
                waiting = True
                self._wait(error)
                continue
            if waiting:
                _LOG.warning("there is room again: the run goes on")
            elif not thinned:
                self.view.has_room()
            return published

    def _look(self, least: int) -> None:
        """Refuse what can not fit before anything of it is written.

        Some places do not say what is free, or say none: there, writing tells.
        """
        try:
            free = fs.free_bytes(self.path)
        except GradientIOError as error:
            _LOG.debug("nobody knows what is free: %s", error)
            return
        if 0 < free < RESERVE + least:
            size = f" of at least {least:,}" if least else ""
            text = (
                f"{free:,} bytes are free, too few for a commit{size} and a reserve of {RESERVE:,}"
            )
            raise GradientIOError("write", self.path, OSError(errno.ENOSPC, text))

    def _wait(self, error: GradientIOError) -> None:
        """Wait for the next try; raises where nobody has the time: a process that ends has not."""
        for _ in range(_INTERVAL):
            if self.hurried() or exit_hook.has_begun():
                raise error
            self.sleep(1.0)

    def _refuse(self, error: GradientIOError, *, optional: bool) -> None:
        """Raise, unless the policy is to wait."""
        if self.policy == "wait":
            return
        if self.policy == "skip" and optional:
            raise SkippedError(str(error)) from error
        others = ', or to go on without this commit: GradientConfig(on_full="wait" or "skip")'
        error.add_note(
            "To make room: gradient gc --grace 0, or gradient forget … --grace 0. To wait for it"
            + (others if optional else ': GradientConfig(on_full="wait")')
        )
        raise error
