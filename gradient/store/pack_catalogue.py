"""The packs that are there: found by listing, trusted when well formed and of the right length.

What they hold is read from ledgers where those tell of them, from the packs' own footers else. A
pack that a ledger tells of is *folded* until something but commits is looked for: history is read
from the ledgers' facts alone. Before an object is called missing or damaged, the footers have been
asked.
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
from gradient.store import multi_pack_index as ledgers
from gradient.store import pack as packs
from gradient.store.multi_pack_index import MultiPackIndex
from gradient.store.object_index import ObjectIndex
from gradient.store.pack import Pack
from gradient.store.pack_format import FrameRow
from gradient.store.workers import ForkLock

_LOG = logging.getLogger("gradient")

_FEW: Final = 16
"""So many packs that appeared later are opened without a look at the ledgers."""

_NAMES_PER_BEGIN: Final = 1000
"""A listing of N times as many names is repeated at every Nth `catch_up`."""


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
        self._ledgers: dict[str, MultiPackIndex] | None = {}
        self._told: dict[str, MultiPackIndex] = {}
        self._folded: set[str] = set()
        self._commits: dict[bytes, str] = {}
        self._loose: set[str] = set()
        self._trash = ObjectIndex()
        self._trashed: dict[str, str] = {}
        self._own: set[str] = set()
        self._proved: set[Oid] = set()
        self.problems: dict[str, GradientError] = {}
        """What is wrong with the packs that can not be used, by pack id."""

    @property
    def index(self) -> ObjectIndex:
        """The packs known so far, with all they hold."""
        self._load()
        if self._folded:
            with self._lock:
                self._unfold()
        return self._index

    @property
    def unsettled(self) -> bool:
        """Whether there are packs whose names another process may not have made durable yet."""
        return self._seen != self._settled

    @property
    def loose(self) -> int:
        """How many packs no ledger tells of."""
        return len(self._loose)

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
            found -= self._folded
            # At first also where they are few: a collection may have put a long history into one.
            if len(found) > _FEW or not self._loaded:
                found -= self._fold(found - self.problems.keys())
            self._open(sorted(found))
            self._loaded = True
            self._skips = len(names) // _NAMES_PER_BEGIN

    def catch_up(self) -> None:
        """Refresh, but of a long listing only now and then: so that its cost stays in bounds.

        For writers: what another process wrote in between is written once more at worst.
        """
        if self._loaded and self._skips > 0:
            self._skips -= 1
        else:
            self.refresh()

    def recheck(self) -> bool:
        """Believe the packs' own footers alone from now on; returns whether that is news."""
        with self._lock:
            told = set(self._told)
            news = bool(told)
            self._ledgers = None
            self._told.clear()
            self._folded.clear()
            self._commits.clear()
            for pack_id in told:
                self._index.drop(pack_id)
            self._open(sorted(told))
            return news

    def add(self, pack: Pack, *, seen: int) -> None:
        """Take in a pack of our own whose name was made durable after `mark` returned `seen`."""
        with self._lock:
            self._names.add(pack.id + packs.SUFFIX)
            self._distrusted.discard(pack.id)
            self._index.drop(pack.id)
            self._index.add([pack])
            self._loose.add(pack.id)
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

        It may be visible, and whether it will survive a power cut is unknown.
        """
        with self._lock:
            self._distrusted.add(pack_id)
            self._forget(pack_id)

    def sealed(self, pack: Pack) -> bool:
        """Tell whether a pack is still there with its length; one that is not is dropped."""
        if self._storage.size(pack.name) == pack.size:
            return True
        self._drop(pack, CorruptPackError(pack.id, f"its length is not {pack.size} any more"))
        return False

    def is_proved(self, oid: Oid) -> bool:
        """Tell whether an object was read and proved here, or lies in a pack of our own."""
        return oid in self._proved or self._is_own(oid)

    def note_proved(self, oid: Oid) -> None:
        """Note that an object was read, and that its hash is right."""
        if not self._is_own(oid):  # else a run that goes on for long would note all it ever wrote
            self._proved.add(oid)

    def _is_own(self, oid: Oid) -> bool:
        with self._lock:
            return any(pack.id in self._own for pack, _ in self._index.holders(oid))

    def open(self, pack: Pack) -> Reader:
        """Open a pack for reading; raises CorruptPackError if it is not what it was."""
        try:
            reader = self._storage.open(pack.name)
        except GradientIOError as error:
            if not fs.is_missing(error) and self._storage.size(pack.name) is not None:
                raise
            found = self._open_trashed(pack)
            if found is None:
                gone = CorruptPackError(pack.id, "it has vanished")
                self._drop(pack, gone)
                raise gone from error
            reader = found
        if reader.size != pack.size:
            reader.close()
            changed = CorruptPackError(pack.id, f"it has {reader.size} bytes, not {pack.size}")
            self._drop(pack, changed)
            raise changed
        return reader

    def find(self, oid: Oid) -> list[tuple[Pack, FrameRow]]:
        """Return an object's frames, self-contained ones first.

        On a miss it looks for new packs, and in the trash.
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
            there = dict(packs.trashed(self._storage))
            for pack_id in self._trash.ids - there.keys():
                self._trash.drop(pack_id)
            fresh = sorted(there.keys() - self._trash.ids)
            opened = packs.open_packs(self._storage, fresh, named=there.__getitem__)
            self._trash.add([pack for pack in opened if isinstance(pack, Pack)])
            found = self._trash.find(oid)
        if not found:
            self.refresh()
            found = self.index.find(oid)
        return found

    def commit(self, oid: Oid) -> bytes | None:
        """Return a commit's body, proved, if a ledger has it and its pack is there."""
        self._load()
        pack_id = self._commits.get(oid)
        ledger = None if pack_id is None else self._told.get(pack_id)
        return None if ledger is None else ledger.body(oid)

    def link(self, oid: Oid) -> Link | None:
        """Return a commit's place in history if a ledger tells of it and its pack is there."""
        self._load()
        pack_id = self._commits.get(oid)
        ledger = None if pack_id is None else self._told.get(pack_id)
        return None if ledger is None else ledger.link(oid)

    def has_commit(self, oid: Oid) -> bool:
        """Whether a ledger has a commit whose pack is there, with its length."""
        self._load()
        pack_id = self._commits.get(oid)
        ledger = None if pack_id is None else self._told.get(pack_id)
        if pack_id is None or ledger is None:
            return False
        if self._storage.size(packs.name_of(pack_id)) == ledger.size(pack_id):
            return True
        with self._lock:
            self._forget(pack_id)
            reason = f"its length is not {ledger.size(pack_id)} any more"
            self.problems[pack_id] = CorruptPackError(pack_id, reason)
        return False

    def commits(self) -> set[Oid]:
        """Return the ids of all commits."""
        self._load()
        with self._lock:
            told = {Oid(oid) for oid, pack_id in self._commits.items() if pack_id in self._told}
            return told.union(self._index.of_kind(Kind.COMMIT))

    def packs(self) -> tuple[int, int]:
        """Return the number of packs, and the length of all."""
        self._load()
        with self._lock:
            opened = self._index.packs
            folded = [self._told[each].size(each) for each in self._folded]
        return len(opened) + len(folded), sum(pack.size for pack in opened) + sum(folded)

    def loose_packs(self) -> list[Pack]:
        """Return the packs that no ledger tells of, sorted."""
        with self._lock:
            return [pack for pack in map(self._index.get, sorted(self._loose)) if pack is not None]

    def leave(self, pack_id: str) -> None:
        """Let no ledger tell of a pack."""
        self._loose.discard(pack_id)

    def told(self) -> dict[MultiPackIndex, set[str]]:
        """Return the ledgers, with those of their packs that are there."""
        with self._lock:
            live: dict[MultiPackIndex, set[str]] = {
                each: set() for each in (self._ledgers or {}).values()
            }
            for pack_id, ledger in self._told.items():
                live[ledger].add(pack_id)
            return live

    def adopt(self, ledger: MultiPackIndex, replaced: Iterable[MultiPackIndex]) -> None:
        """Go on with a ledger that was written, in place of others."""
        with self._lock:
            if self._ledgers is None:
                # Footers alone are believed here; but others are served, and that is enough.
                self._loose.difference_update(ledger.ids)
                return
            for each in replaced:
                self._ledgers.pop(each.name, None)
            self._ledgers[ledger.name] = ledger
            there = [each for each in ledger.ids if each in self._loose or each in self._told]
            self._loose.difference_update(there)
            self._told.update(dict.fromkeys(there, ledger))
            known = set(there)
            self._commits.update(item for item in ledger.commits() if item[1] in known)
            # Another process may have replaced one of the others before us: then its pages could
            # not be read, and what it alone told of has to be asked itself.
            gone = {each.name for each in replaced} - {ledger.name}
            untold = sorted(each for each in self._told if self._told[each].name in gone)
            for pack_id in untold:
                del self._told[pack_id]
                self._folded.discard(pack_id)
            self._loose.update(untold)
            self._open([each for each in untold if each not in self._index.ids])

    def absence(self, oid: Oid) -> GradientError:
        """Make the error for an object that no pack has: a pack that can not be read, if any."""
        for pack_id, problem in sorted(self.problems.items()):
            reason = f"{getattr(problem, 'reason', problem)}; object {oid} is in no other pack"
            return CorruptPackError(pack_id, reason)
        return MissingObjectError(str(oid))

    def _open_trashed(self, pack: Pack) -> Reader | None:
        """Open a pack in the trash; None where it is not there, or back where it was."""
        known = self._trashed.get(pack.id)
        reader = None if known is None else self._open_if_there(known)
        if reader is None:
            # All names are kept: who reads one pack out of the trash reads others.
            self._trashed = dict(packs.trashed(self._storage))
            places = (self._trashed.get(pack.id), pack.name)
            found = (self._open_if_there(place) for place in places if place is not None)
            reader = next((each for each in found if each is not None), None)
        return reader

    def _open_if_there(self, name: str) -> Reader | None:
        try:
            return self._storage.open(name)
        except GradientIOError as error:
            if not fs.is_missing(error):
                raise
            return None

    def _drop(self, pack: Pack, problem: GradientError) -> None:
        with self._lock:
            self._forget(pack.id)
            self.problems[pack.id] = problem

    def _forget(self, pack_id: str) -> None:
        self._index.drop(pack_id)
        self._loose.discard(pack_id)
        self._folded.discard(pack_id)
        self._told.pop(pack_id, None)

    def _load(self) -> None:
        if not self._loaded:
            self.refresh()

    def _fold(self, found: set[str]) -> set[str]:
        """Read the ledgers that are new; returns which of the packs they tell of."""
        if self._ledgers is None:
            return set()
        for ledger in ledgers.read_all(self._storage, but=self._ledgers):
            self._ledgers[ledger.name] = ledger
        folded: set[str] = set()
        for ledger in self._ledgers.values():
            told = found.intersection(ledger.ids) - folded
            folded |= told
            self._told.update(dict.fromkeys(told, ledger))
            self._commits.update(item for item in ledger.commits() if item[1] in told)
        self._folded |= folded
        self._seen += bool(folded)
        return folded

    def _unfold(self) -> None:
        """Take in what the ledgers say of the packs' other objects, or the footers instead."""
        missing: list[str] = []
        for ledger in {id(each): each for each in self._told.values()}.values():
            # Of what two ledgers tell, only one is asked.
            folded = [
                each
                for each in ledger.ids
                if each in self._folded and self._told.get(each) is ledger
            ]
            opened = ledger.packs(self._storage) if folded else []
            if opened is None:
                missing += folded
                for pack_id in folded:
                    self._told.pop(pack_id)
            else:
                mine = set(folded)
                self._index.add([pack for pack in opened if pack.id in mine])
        self._folded.clear()
        self._open(sorted(missing))

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
        self._loose.update(pack.id for pack in fresh)
        self._seen += bool(fresh)
