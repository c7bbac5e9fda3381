"""The coding plans of each tensor's chunks, kept from commit to commit.

Making a plan samples the chunk and the anchor's chunk, which must be read and verified first. For a
small tensor that is most of the work. So the plans of one commit are reused by the next ones, until
they are `MAX_AGE` commits old or a payload becomes larger than its plan predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gradient.codec.coding_plan import CodingPlan

MAX_AGE: Final = 16
"""The number of commits for which a plan is reused, at most."""


class CodecCache:
    """The coding plans of one run, by the path of the tensor."""

    def __init__(self) -> None:
        self._known: dict[str, Sequence[CodingPlan | None]] = {}
        self._ages: dict[str, int] = {}

    def get(self, path: str, count: int) -> Sequence[CodingPlan | None]:
        """Return the plan for each of a tensor's chunks; None for a chunk that must be sampled."""
        known = self._known.get(path, ())
        # The ages start at different values, so that no commit samples all tensors at once.
        age = self._ages[path] = self._ages.get(path, len(self._ages) - 1) + 1
        is_valid = age % (MAX_AGE + 1) > 0 and len(known) == count
        return known if is_valid else [None] * count

    def put(self, path: str, plans: Sequence[CodingPlan | None]) -> None:
        """Store the plans with which the chunks of a tensor were coded."""
        self._known[path] = plans
