"""What a tensor may be stored as the difference from: the chunks of the anchor, by path."""

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
        """Read the trees of an anchor."""
        self._store = store
        self._contents: dict[str, Content] = {}
        for content in chunk_walk.contents(store, root):
            self._contents[content.path] = content

    def chunks(self, path: str, dtype: str | None, nbytes: int) -> Sequence[Oid] | None:
        """Return the anchor's chunks of the tensor at a path; None where it has none like it."""
        content = self._contents.get(path)
        if content is None or (content.dtype, content.nbytes) != (dtype, nbytes):
            return None
        try:
            return content.chunks(self._store)
        except IntegrityError:  # the anchor was forgotten since its trees were read
            return None
