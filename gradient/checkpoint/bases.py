"""What a tensor may be stored as the difference from: the chunks of the anchor, by path.

Whether a difference pays is asked for each chunk by the codec, which samples both. That needs the
anchor's chunk in memory, so a tensor for which it did not pay is not asked again for a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from gradient.checkpoint import walk
from gradient.checkpoint.walk import Content, TreeReader
from gradient.errors import IntegrityError
from gradient.objects.oid import Oid

PAUSE = 16
"""Commits for which a tensor that gained nothing is not tried again."""

_What: TypeAlias = "tuple[str | None, int]"


class Bases:
    """The chunks of one anchor."""

    def __init__(self, store: TreeReader, root: Oid, skipped: dict[str, int]) -> None:
        """Read the trees of an anchor. `skipped` is kept up to date, and outlives the anchor."""
        self._store = store
        self._contents: dict[str, Content] = {}
        for content in walk.contents(store, root):
            self._contents[content.path] = content
        self._skipped = skipped

    def of(self, path: str, dtype: str | None, nbytes: int) -> Sequence[Oid] | None:
        """Return the anchor's chunks of the tensor at a path; None where they are not worth it."""
        rest = self._skipped.get(path, 0)
        if rest:
            self._skipped[path] = rest - 1
            return None
        content = self._contents.get(path)
        if content is None or (content.dtype, content.nbytes) != (dtype, nbytes):
            return None
        try:
            return content.chunks(self._store)
        except IntegrityError:  # the anchor was forgotten since its trees were read
            return None

    def learn(self, path: str, *, tried: int, gained: int) -> None:
        """Note for how many chunks of a tensor a difference was tried, and for how many it paid."""
        if tried and not gained:
            self._skipped[path] = PAUSE
