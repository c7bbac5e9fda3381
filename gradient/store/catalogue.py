"""The packs that are there: found by listing, trusted when well formed and of the right length."""

from __future__ import annotations

import logging

from gradient.errors import (
    CorruptPackError,
    GradientError,
    GradientIOError,
    MissingObjectError,
)
from gradient.objects.oid import Oid
from gradient.storage.base import Reader, Storage
from gradient.store import pack as packs
from gradient.store.index import Index
from gradient.store.layout import Row
from gradient.store.pack import Pack
from gradient.store.workers import ForkLock

_LOG = logging.getLogger("gradient")


class Catalogue:
    """The index of one storage's packs, brought up to date by `refresh`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._index = Index()
        self._lock = ForkLock()
        self._loaded = False
        self._seen = 0
        self._settled = 0
        self._names: set[str] = set()
        self._distrusted: set[str] = set()
        self.problems: dict[str, GradientError] = {}
        """What is wrong with the packs that can not be used, by pack id."""

    @property
    def index(self) -> Index:
        """The packs known so far."""
        if not self._loaded:
            self.refresh()
        return self._index

    @property
    def unsettled(self) -> bool:
        """Whether there are packs whose names another process may not have made durable yet."""
        return self._seen != self._settled

    def refresh(self) -> None:
        """Take in packs that appeared, drop those that vanished."""
        with self._lock:
            names = set(self._storage.names(packs.FOLDER))
            vanished, appeared = self._names - names, names - self._names
            self._names = names
            for pack_id in filter(None, map(packs.id_of, vanished)):
                self._index.drop(pack_id)
            for pack_id in [each for each in self.problems if each + packs.SUFFIX not in names]:
                del self.problems[pack_id]
            found = set(filter(None, map(packs.id_of, appeared))) | self.problems.keys()
            self._open(sorted(found - self._distrusted - self._index.ids))
            self._loaded = True

    def add(self, pack: Pack, *, seen: int) -> None:
        """Take in a pack of our own whose name was made durable after `mark` returned `seen`."""
        with self._lock:
            self._names.add(pack.id + packs.SUFFIX)
            self._distrusted.discard(pack.id)
            self._index.drop(pack.id)
            self._index.add([pack])
            self.problems.pop(pack.id, None)
            self._settled = max(self._settled, seen)

    def mark(self) -> int:
        """Return a mark of the packs seen so far, for `add` and `settle`."""
        return self._seen

    def settle(self) -> None:
        """Make the names of all packs seen so far durable."""
        seen = self.mark()
        self._storage.sync(packs.FOLDER)
        self._settled = max(self._settled, seen)

    def distrust(self, pack_id: str) -> None:
        """Ignore a pack of our own whose publishing failed, until it is published again.

        It may be visible, and whether it will survive a power cut is unknown.
        """
        with self._lock:
            self._distrusted.add(pack_id)
            self._index.drop(pack_id)

    def sealed(self, pack: Pack) -> bool:
        """Tell whether a pack is still there with its length; one that is not is dropped."""
        if self._storage.size(pack.name) == pack.size:
            return True
        self._drop(pack, CorruptPackError(pack.id, f"its length is not {pack.size} any more"))
        return False

    def open(self, pack: Pack) -> Reader:
        """Open a pack for reading; raises CorruptPackError if it is not what it was."""
        try:
            reader = self._storage.open(pack.name)
        except GradientIOError as error:
            if self._storage.size(pack.name) is None:
                gone = CorruptPackError(pack.id, "it has vanished")
                self._drop(pack, gone)
                raise gone from error
            raise
        if reader.size != pack.size:
            reader.close()
            changed = CorruptPackError(pack.id, f"it has {reader.size} bytes, not {pack.size}")
            self._drop(pack, changed)
            raise changed
        return reader

    def find(self, oid: Oid) -> list[tuple[Pack, Row]]:
        """Return an object's frames, self-contained ones first; looks for new packs on a miss."""
        found = self.index.find(oid)
        if not found:
            self.refresh()
            found = self.index.find(oid)
        return found

    def absence(self, oid: Oid) -> GradientError:
        """Make the error for an object that no pack has: a pack that can not be read, if any."""
        for pack_id, problem in sorted(self.problems.items()):
            reason = f"{getattr(problem, 'reason', problem)}; object {oid} is in no other pack"
            return CorruptPackError(pack_id, reason)
        return MissingObjectError(str(oid))

    def _drop(self, pack: Pack, problem: GradientError) -> None:
        with self._lock:
            self._index.drop(pack.id)
            self.problems[pack.id] = problem

    def _open(self, pack_ids: list[str]) -> None:
        fresh: list[Pack] = []
        for pack_id, opened in zip(
            pack_ids, packs.open_packs(self._storage, pack_ids), strict=True
        ):
            if isinstance(opened, Pack):
                self.problems.pop(pack_id, None)
                fresh.append(opened)
            else:
                if pack_id not in self.problems:
                    _LOG.warning("%s", opened)
                self.problems[pack_id] = opened
        self._index.add(fresh)
        self._seen += bool(fresh)
