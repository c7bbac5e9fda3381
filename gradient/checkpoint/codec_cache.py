"""How each tensor was coded last time, so that it is not asked anew at every commit.

Asking means to sample the chunk and, where there is one, the anchor's chunk, which has to be read
and proved for it. For a small tensor that is most of the work. So the answers of one commit serve
the next ones: until they are `MAX_AGE`, or a payload outgrows what it was when its plan was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gradient.codec.coding_plan import CodingPlan

MAX_AGE: Final = 16
"""Commits for which an answer serves, at most."""


class CodecCache:
    """The plans of one run's chunks, by the path of their tensor."""

    def __init__(self) -> None:
        self._known: dict[str, Sequence[CodingPlan | None]] = {}
        self._ages: dict[str, int] = {}

    def get(self, path: str, count: int) -> Sequence[CodingPlan | None]:
        """Return the plan for each of a tensor's chunks; None for one that is to be asked."""
        known = self._known.get(path, ())
        # Not all begin at 0, so that no commit has to ask for all of them.
        age = self._ages[path] = self._ages.get(path, len(self._ages) - 1) + 1
        serves = age % (MAX_AGE + 1) > 0 and len(known) == count
        return known if serves else [None] * count

    def put(self, path: str, plans: Sequence[CodingPlan | None]) -> None:
        """Note with which plans the chunks of a tensor were coded."""
        self._known[path] = plans
