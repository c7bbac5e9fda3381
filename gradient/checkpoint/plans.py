"""How each tensor was coded last time, so that it is not asked anew at every commit.

Asking means to sample the chunk and, where there is one, the anchor's chunk, which has to be read
and proved for it. For a small tensor that is most of the work. So the answers of one commit serve
the next ones: until they are `RENEWED`, or a payload outgrows what it was when its plan was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gradient.codec.planning import Plan

RENEWED: Final = 16
"""Commits for which an answer serves."""


class Plans:
    """The plans of one run's chunks, by the path of their tensor."""

    def __init__(self) -> None:
        self._known: dict[str, Sequence[Plan | None]] = {}
        self._ages: dict[str, int] = {}

    def of(self, path: str, count: int) -> Sequence[Plan | None]:
        """Return the plan for each of a tensor's chunks; None for one that is to be asked."""
        known = self._known.get(path, ())
        age = self._ages[path] = self._ages.get(path, 0) + 1
        if age > RENEWED or len(known) != count:
            self._ages[path] = 0
            return [None] * count
        return known

    def learn(self, path: str, plans: Sequence[Plan | None]) -> None:
        """Note with which plans the chunks of a tensor were coded."""
        self._known[path] = plans
