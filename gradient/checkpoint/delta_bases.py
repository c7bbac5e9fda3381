"""The chunks of an anchor by path: the bases from which deltas may be computed."""

from __future__ import annotations

from collections.abc import Sequence

from gradient.checkpoint import chunk_walk
from gradient.checkpoint.chunk_walk import Content
from gradient.errors import IntegrityError
from gradient.objects.oid import Oid
from gradient.objects.tree_reader import TreeReader


class DeltaBases:
    """The chunks of one anchor."""

    def __init__(self, store: TreeReader, root: Oid) -> None:
        """Read the trees under `root`, the root tree of the anchor."""
        self._store = store
        self._contents: dict[str, Content] = {}
        for content in chunk_walk.contents(store, root):
            self._contents[content.path] = content

    def chunks(self, path: str, dtype: str | None, nbytes: int) -> Sequence[Oid] | None:
        """Return the anchor's chunks of the tensor at `path`; None if dtype or length differ."""
        content = self._contents.get(path)
        if content is None or (content.dtype, content.nbytes) != (dtype, nbytes):
            return None
        try:
            return content.chunks(self._store)
        except IntegrityError:  # the anchor was forgotten since its trees were read
            return None
