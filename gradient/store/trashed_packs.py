"""The packs in the trash: readers find there what a garbage collection has just moved."""

from __future__ import annotations

from gradient.errors import GradientIOError
from gradient.objects.oid import Oid
from gradient.storage import fs
from gradient.storage.base import Reader, Storage
from gradient.store import pack as packs
from gradient.store.object_index import ObjectIndex
from gradient.store.pack import Pack
from gradient.store.pack_format import FrameRow


class TrashedPacks:
    """The trash of one storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._index = ObjectIndex()
        self._names: dict[str, str] = {}

    def find(self, oid: Oid) -> list[tuple[Pack, FrameRow]]:
        """Return an object's frames in the trash, after listing it. One thread at a time."""
        names = dict(packs.trashed(self._storage))
        for pack_id in self._index.ids - names.keys():
            self._index.drop(pack_id)
        fresh = sorted(names.keys() - self._index.ids)
        opened = packs.open_packs(self._storage, fresh, named=names.__getitem__)
        self._index.add([pack for pack in opened if isinstance(pack, Pack)])
        return self._index.find(oid)

    def open(self, pack: Pack) -> Reader | None:
        """Open a pack in the trash, or where it was if it has been moved back; None if neither."""
        known = self._names.get(pack.id)
        reader = None if known is None else self._open_if_exists(known)
        if reader is None:
            # All names are kept, because a reader of one trashed pack reads others.
            self._names = dict(packs.trashed(self._storage))
            names = (self._names.get(pack.id), pack.name)
            found = (self._open_if_exists(name) for name in names if name is not None)
            reader = next((each for each in found if each is not None), None)
        return reader

    def _open_if_exists(self, name: str) -> Reader | None:
        try:
            return self._storage.open(name)
        except GradientIOError as error:
            if not fs.is_missing(error):
                raise
            return None
