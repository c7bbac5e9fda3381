"""The packs of a storage: found by listing, trusted if well formed and of the right length.

Their contents are read from the multi-pack indexes that cover them (see `covered_packs`), else from
the packs' own footers. The catalogue reports an object as missing or damaged only after it has read
the footers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from gradient.errors import (
    CorruptPackError,
    GradientError,
    GradientIOError,
    MissingObjectError,
)
from gradient.objects.commit import Link
from gradient.objects.oid import Kind, Oid
from gradient.storage import fs
from gradient.storage.base import Reader, Storage
from gradient.store import pack as packs
from gradient.store.covered_packs import CoveredPacks
from gradient.store.fork_lock import ForkLock
from gradient.store.multi_pack_index import MultiPackIndex
from gradient.store.object_index import ObjectIndex
from gradient.store.pack import Pack
from gradient.store.pack_format import FrameRow
from gradient.store.trashed_packs import TrashedPacks

_LOG = logging.getLogger("gradient")

_FEW: Final = 16
"""Up to this many new packs are opened without reading new multi-pack indexes."""

_NAMES_PER_SKIP: Final = 1000
"""A listing of N times as many names is repeated only at every Nth `catch_up`."""


class PackCatalogue:
    """The index of one storage's packs, brought up to date by `refresh`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._index = ObjectIndex()
        self._lock = ForkLock()
        self._loaded = False
        self._seen = 0
        self._settled = 0
        self._skips = 0
        self._names: set[str] = set()
        self._distrusted: set[str] = set()
        self._covered = CoveredPacks(storage)
        self._uncovered: set[str] = set()
        self._trash = TrashedPacks(storage)
        self._own: set[str] = set()
        self._proved: set[Oid] = set()
        self.problems: dict[str, GradientError] = {}
        """The errors of the packs that cannot be used, by pack id."""

    @property
    def index(self) -> ObjectIndex:
        """The packs known so far, with all their objects."""
        self._load()
        if self._covered.unopened:
            with self._lock:
                self._open_covered()
        return self._index

    @property
    def unsettled(self) -> bool:
        """True if there are packs whose names another process may not have made durable yet."""
        return self._seen != self._settled

    @property
    def uncovered(self) -> int:
        """The number of packs that no multi-pack index covers."""
        return len(self._uncovered)

    def refresh(self) -> None:
        """Take in packs that appeared, drop those that vanished."""
        with self._lock:
            names = set(self._storage.names(packs.FOLDER))
            vanished, appeared = self._names - names, names - self._names
            self._names = names
            for pack_id in filter(None, map(packs.id_of, vanished)):
                self._forget(pack_id)
            for pack_id in [each for each in self.problems if each + packs.SUFFIX not in names]:
                del self.problems[pack_id]
            found = set(filter(None, map(packs.id_of, appeared))) | self.problems.keys()
            found -= self._distrusted
            found -= self._index.ids
            found -= self._covered.unopened
            # The first time also for a few: a collection may have put a long history into one pack.
            if len(found) > _FEW or not self._loaded:
                covered = self._covered.add(found - self.problems.keys())
                self._seen += bool(covered)
                found -= covered
            self._open(sorted(found))
            self._loaded = True
            self._skips = len(names) // _NAMES_PER_SKIP

    def catch_up(self) -> None:
        """Refresh, but skip some of the calls if the listing is long, so that the cost is bounded.

        For writers: at worst they write an object again that another process has written.
        """
        if self._loaded and self._skips > 0:
            self._skips -= 1
        else:
            self.refresh()

    def recheck(self) -> bool:
        """Read the packs' own footers only, from now on; returns False if nothing changes."""
        with self._lock:
            covered = self._covered.distrust()
            for pack_id in covered:
                self._index.drop(pack_id)
            self._open(sorted(covered))
            return bool(covered)

    def add(self, pack: Pack, *, seen: int) -> None:
        """Take in a pack of our own whose name was made durable after `mark` returned `seen`."""
        with self._lock:
            self._names.add(pack.id + packs.SUFFIX)
            self._distrusted.discard(pack.id)
            self._index.drop(pack.id)
            self._index.add([pack])
            self._uncovered.add(pack.id)
            self._own.add(pack.id)
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

        It may be visible, but it may not survive a power cut.
        """
        with self._lock:
            self._distrusted.add(pack_id)
            self._forget(pack_id)

    def sealed(self, pack: Pack) -> bool:
        """Return whether a pack still exists with its length; drop it if not."""
        if self._storage.size(pack.name) == pack.size:
            return True
        self._drop(pack.id, CorruptPackError(pack.id, f"its length is not {pack.size} any more"))
        return False

    def is_proved(self, oid: Oid) -> bool:
        """Return whether this process has read and proved an object, or has written it."""
        return oid in self._proved or self._is_own(oid)

    def note_proved(self, oid: Oid) -> None:
        """Note that an object was read, and that its hash is right."""
        if not self._is_own(oid):  # else a long run would remember every object that it wrote
            self._proved.add(oid)

    def _is_own(self, oid: Oid) -> bool:
        with self._lock:
            return any(pack.id in self._own for pack, _ in self._index.holders(oid))

    def open(self, pack: Pack) -> Reader:
        """Open a pack for reading; raises CorruptPackError if it has changed or vanished."""
        try:
            reader = self._storage.open(pack.name)
        except GradientIOError as error:
            if not fs.is_missing(error) and self._storage.size(pack.name) is not None:
                raise
            found = self._trash.open(pack)
            if found is None:
                gone = CorruptPackError(pack.id, "it has vanished")
                self._drop(pack.id, gone)
                raise gone from error
            reader = found
        if reader.size != pack.size:
            reader.close()
            changed = CorruptPackError(pack.id, f"it has {reader.size} bytes, not {pack.size}")
            self._drop(pack.id, changed)
            raise changed
        return reader

    def find(self, oid: Oid) -> list[tuple[Pack, FrameRow]]:
        """Return an object's frames, those without a base first.

        If there are none, it looks for new packs, and in the trash.
        """
        found = self.index.find(oid)
        if not found:
            self.refresh()
            found = self.index.find(oid)
        if not found and self.recheck():
            found = self.index.find(oid)
        return found or self.find_trashed(oid)

    def find_trashed(self, oid: Oid) -> list[tuple[Pack, FrameRow]]:
        """Return an object's frames in the trash, or in packs that just came back from there."""
        with self._lock:
            found = self._trash.find(oid)
        if not found:
            self.refresh()
            found = self.index.find(oid)
        return found

    def commit(self, oid: Oid) -> bytes | None:
        """Return a commit's body, proved, if its pack exists and a multi-pack index covers it."""
        self._load()
        holder = self._covered.holder(oid)
        return None if holder is None else holder[1].body(oid)

    def link(self, oid: Oid) -> Link | None:
        """Return a commit's place in history, under the same conditions as `commit`."""
        self._load()
        holder = self._covered.holder(oid)
        return None if holder is None else holder[1].link(oid)

    def has_commit(self, oid: Oid) -> bool:
        """Return whether a multi-pack index covers a commit, and its pack has its length."""
        self._load()
        holder = self._covered.holder(oid)
        if holder is None:
            return False
        pack_id, index = holder
        if self._storage.size(packs.name_of(pack_id)) == index.size(pack_id):
            return True
        reason = f"its length is not {index.size(pack_id)} any more"
        self._drop(pack_id, CorruptPackError(pack_id, reason))
        return False

    def commits(self) -> set[Oid]:
        """Return the ids of all commits."""
        self._load()
        with self._lock:
            return set(self._covered.commits()).union(self._index.of_kind(Kind.COMMIT))

    def pack_totals(self) -> tuple[int, int]:
        """Return the number of packs and their total length in bytes."""
        self._load()
        with self._lock:
            sizes = [pack.size for pack in self._index.packs]
            sizes += map(self._covered.size, self._covered.unopened)
        return len(sizes), sum(sizes)

    def uncovered_packs(self) -> list[Pack]:
        """Return the packs that no multi-pack index covers, sorted by id."""
        with self._lock:
            found = map(self._index.get, sorted(self._uncovered))
            return [pack for pack in found if pack is not None]

    def exclude(self, pack_id: str) -> None:
        """Leave a pack out of all multi-pack indexes."""
        self._uncovered.discard(pack_id)

    def covered(self) -> dict[MultiPackIndex, set[str]]:
        """Return the multi-pack indexes, each with the existing packs that it covers."""
        with self._lock:
            return self._covered.by_index()

    def adopt(self, written: MultiPackIndex, replaced: Iterable[MultiPackIndex]) -> None:
        """Use a multi-pack index that was written in place of others."""
        with self._lock:
            lost = self._covered.replace(written, replaced, self._uncovered)
            self._uncovered.update(lost)
            self._open([each for each in lost if each not in self._index.ids])

    def absence(self, oid: Oid) -> GradientError:
        """Make the error for an object that no pack has: that of an unreadable pack, if any."""
        for pack_id, problem in sorted(self.problems.items()):
            reason = f"{getattr(problem, 'reason', problem)}; object {oid} is in no other pack"
            return CorruptPackError(pack_id, reason)
        return MissingObjectError(str(oid))

    def _drop(self, pack_id: str, problem: GradientError) -> None:
        with self._lock:
            self._forget(pack_id)
            self.problems[pack_id] = problem

    def _forget(self, pack_id: str) -> None:
        self._index.drop(pack_id)
        self._uncovered.discard(pack_id)
        self._covered.forget(pack_id)

    def _load(self) -> None:
        if not self._loaded:
            self.refresh()

    def _open_covered(self) -> None:
        """Take in the covered packs' other objects, from their footers if an index is damaged."""
        opened, missing = self._covered.open_packs()
        self._index.add(opened)
        self._covered.unopened.clear()
        self._open(missing)

    def _open(self, pack_ids: list[str]) -> None:
        fresh: list[Pack] = []
        for pack_id, opened in zip(
            pack_ids, packs.open_packs(self._storage, pack_ids), strict=True
        ):
            if isinstance(opened, Pack):
                self.problems.pop(pack_id, None)
                fresh.append(opened)
            elif not (isinstance(opened, GradientIOError) and fs.is_missing(opened)):
                if pack_id not in self.problems:
                    _LOG.warning("%s", opened)
                self.problems[pack_id] = opened
        self._index.add(fresh)
        self._uncovered.update(pack.id for pack in fresh)
        self._seen += bool(fresh)
