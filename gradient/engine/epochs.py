"""Which epoch a resumed run stands in.

An epoch is over when one of its loaders has been read to the end and none is being read: a commit
before that moment resumes inside the epoch, a commit after it with the next one. Without loaders a
commit counts as made at the end of its epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradient.state.loader import ResumableLoader


class Epochs:
    """The registered state behind `GradientEngine.epochs`."""

    def __init__(self, loaders: list[ResumableLoader]) -> None:
        self._loaders = loaders
        self._current: int | None = None
        self._resumed: int | None = None
        self._finished = 0

    def iterate(self, start: int, stop: int) -> Iterator[int]:
        """Yield the epochs still to run, from `start` or from where the resumed run was."""
        first = start if self._resumed is None else max(start, self._resumed)
        self._resumed = None
        for epoch in range(first, stop):
            self._current = epoch
            self._finished = self._count()
            yield epoch
            self._current = epoch + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch to resume with; None before the first one."""
        if self._current is None:
            return {"epoch": self._resumed}
        reading = any(loader.in_epoch for loader in self._loaders)
        over = not self._loaders or (not reading and self._count() > self._finished)
        return {"epoch": self._current + 1 if over else self._current}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the recorded epoch at the next `iterate`."""
        self._resumed = state["epoch"]
        self._current = None

    def _count(self) -> int:
        return sum(loader.finished for loader in self._loaders)
