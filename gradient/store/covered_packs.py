"""The packs that multi-pack indexes cover: history is answered without opening these packs.

A covered pack stays *unopened* until something other than a commit is looked up. The catalogue
holds its lock around every change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from gradient.objects.oid import Oid
from gradient.storage.base import Storage
from gradient.store import multi_pack_index
from gradient.store.multi_pack_index import MultiPackIndex
from gradient.store.pack import Pack


class CoveredPacks:
    """The multi-pack indexes of one storage, and the existing packs that they cover."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._indexes: dict[str, MultiPackIndex] | None = {}
        self._index_of: dict[str, MultiPackIndex] = {}
        self._commits: dict[bytes, str] = {}
        self.unopened: set[str] = set()
        """The packs whose other objects are not known yet."""

    @property
    def is_trusted(self) -> bool:
        """False once only the packs' own footers count."""
        return self._indexes is not None

    def __contains__(self, pack_id: str) -> bool:
        return pack_id in self._index_of

    def add(self, found: set[str]) -> set[str]:
        """Read the new multi-pack indexes; returns which of the packs they cover."""
        if self._indexes is None:
            return set()
        for index in multi_pack_index.read_all(self._storage, but=self._indexes):
            self._indexes[index.name] = index
        covered: set[str] = set()
        for index in self._indexes.values():
            ids = found.intersection(index.ids) - covered
            covered |= ids
            self._cover(ids, index)
        self.unopened |= covered
        return covered

    def forget(self, pack_id: str) -> None:
        """Drop a pack that has vanished or is damaged; idempotent."""
        self.unopened.discard(pack_id)
        self._index_of.pop(pack_id, None)

    def distrust(self) -> set[str]:
        """Ignore all multi-pack indexes from now on; returns the packs that they covered."""
        covered = set(self._index_of)
        self._indexes = None
        self._index_of.clear()
        self.unopened.clear()
        self._commits.clear()
        return covered

    def open_packs(self) -> tuple[list[Pack], list[str]]:
        """Return the unopened packs, and the ids of those whose index could not be read.

        The caller clears `unopened` when it has taken them in.
        """
        opened: list[Pack] = []
        missing: list[str] = []
        for index in {id(each): each for each in self._index_of.values()}.values():
            # If two indexes cover a pack, only the first one is read for it.
            ids = [
                each
                for each in index.ids
                if each in self.unopened and self._index_of.get(each) is index
            ]
            packs = index.packs(self._storage) if ids else []
            if packs is None:
                missing += ids
                for pack_id in ids:
                    self._index_of.pop(pack_id)
            else:
                wanted = set(ids)
                opened += [pack for pack in packs if pack.id in wanted]
        return opened, sorted(missing)

    def replace(
        self, written: MultiPackIndex, replaced: Iterable[MultiPackIndex], uncovered: set[str]
    ) -> list[str]:
        """Use an index that was written in place of others.

        `uncovered` are packs that no index covered so far; those that `written` covers are taken
        out of it. Returns the packs that only the replaced indexes covered.
        """
        if self._indexes is None:
            # Only footers count here, but other processes benefit: that is enough.
            uncovered.difference_update(written.ids)
            return []
        for each in replaced:
            self._indexes.pop(each.name, None)
        self._indexes[written.name] = written
        ids = [each for each in written.ids if each in uncovered or each in self._index_of]
        uncovered.difference_update(ids)
        self._cover(ids, written)
        # Another process may have replaced one of the others before us. Then its entries could not
        # be read, and the packs that it alone covered have to be opened.
        gone = {each.name for each in replaced} - {written.name}
        lost = sorted(each for each, index in self._index_of.items() if index.name in gone)
        for pack_id in lost:
            self.forget(pack_id)
        return lost

    def by_index(self) -> dict[MultiPackIndex, set[str]]:
        """Return the multi-pack indexes, each with the existing packs that it covers."""
        found: dict[MultiPackIndex, set[str]] = {
            each: set() for each in (self._indexes or {}).values()
        }
        for pack_id, index in self._index_of.items():
            found[index].add(pack_id)
        return found

    def size(self, pack_id: str) -> int:
        """Return the length of a covered pack."""
        return self._index_of[pack_id].size(pack_id)

    def holder(self, oid: Oid) -> tuple[str, MultiPackIndex] | None:
        """Return the pack that has a commit, and the index that covers it."""
        pack_id = self._commits.get(oid)
        index = None if pack_id is None else self._index_of.get(pack_id)
        return None if pack_id is None or index is None else (pack_id, index)

    def commits(self) -> Iterator[Oid]:
        """Yield the ids of the commits in covered packs."""
        return (Oid(oid) for oid, pack_id in self._commits.items() if pack_id in self._index_of)

    def _cover(self, pack_ids: Collection[str], index: MultiPackIndex) -> None:
        wanted = set(pack_ids)
        self._index_of.update(dict.fromkeys(wanted, index))
        self._commits.update(item for item in index.commits() if item[1] in wanted)
