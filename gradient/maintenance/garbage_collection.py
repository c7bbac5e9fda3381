"""`gradient gc`: moves unreachable data to the trash, and removes it after a grace period.

The protocol, whose steps must not change places (docs/design.md, "Collection";
tests/maintenance/test_model.py checks a model of it with two writers exhaustively):

    list packs → mark from the refs → copy live objects out of packs that go, durably
    → move packs to the trash → wait for the leases → mark from the refs *again*
    → restore what is needed → remove for good

A writer holds a lease from before its first look-up until its ref has moved. If it depends on a
pack that goes to the trash, then either its lease is waited for, or its ref is visible when the
refs are read again. If a lease does not end in time, the trash is left to the next collection. The
grace period is for people who change their minds: nothing here depends on a clock.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from gradient.errors import GradientIOError, MissingObjectError
from gradient.maintenance.lease_drain import WAIT, drain
from gradient.maintenance.lock import exclusive
from gradient.objects import timestamp
from gradient.objects.oid import Oid
from gradient.repo.reachability import Marker
from gradient.repo.repository import Repository
from gradient.storage.base import Storage
from gradient.storage.directory import NO_ROOM
from gradient.store import pack as packs
from gradient.store import repack
from gradient.store.index_compaction import compact
from gradient.store.object_store import ObjectStore
from gradient.store.pack import Pack
from gradient.store.ref_record import RefRecord
from gradient.store.retention_log import Dropped, RetentionLog

_LOG = logging.getLogger("gradient")

GRACE: Final = 7 * 86400.0
"""The grace period in seconds, for the trash and for commits that only older ref records reach."""
_STALE: Final = 86400.0
"""The age in seconds after which an unfinished file counts as abandoned."""
_UNFINISHED: Final = re.compile(r"[0-9a-f]{32}")
"""The names of unfinished files; other files in the folder (``.DS_Store``) are foreign."""
_LONG: Final = 500
"""The number of commits that justify a multi-pack index of their packs."""
_COLLECTION: Final = "%Y%m%dt%H%M%S"

Progress = Callable[[str, int], None]
"""Called with the current step, and with the progress made in it."""


@dataclass(slots=True)
class GcResult:
    """The result of a collection; with `dry_run`, what it would do."""

    commits: int = 0
    """The number of commits that are kept."""
    packs: int = 0
    """The number of packs before."""
    stored_bytes: int = 0
    """The length of those."""
    dead: int = 0
    """The number of packs without live objects."""
    rewritten: int = 0
    """The number of packs whose live objects were copied into new ones."""
    written: int = 0
    """The number of new packs."""
    recompressed: int = 0
    """The number of new packs that hold recompressed objects."""
    trashed_bytes: int = 0
    """The bytes that were moved to the trash."""
    saved_bytes: int = 0
    """The bytes saved once the trash is empty; with `dry_run`, an estimate."""
    restored: int = 0
    """The number of packs restored from the trash, because they are needed after all."""
    removed: int = 0
    """The number of packs removed for good."""
    freed_bytes: int = 0
    """The length of those."""
    waiting: int = 0
    """The number of writers that did not end in time; because of them nothing was removed for good.
    """
    in_trash: int = 0
    """The number of packs in the trash now."""
    in_trash_bytes: int = 0
    """The length of those."""
    full: bool = False
    """True if the disk had too little space to finish; freed space lets the next collection
    continue."""


def collect(
    repo: Repository,
    *,
    grace: float = GRACE,
    wait: float = WAIT,
    dry_run: bool = False,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.time,
    leaving: Mapping[Oid, Dropped] | None = None,
    recompress: bool = False,
) -> GcResult:
    """Collect a repo; `grace` and `wait` are seconds. With `dry_run` nothing changes, and the
    commits in `leaving` count as dropped. `recompress` tries a smaller form of every chunk.

    Safe during writes and reads, whatever the grace period, and after a kill at any point. Raises
    ConflictError if another collection is running, MalformedObjectError for a ref that cannot be
    read, an IntegrityError for missing or damaged objects, and GradientIOError. No error loses
    data.
    """
    if dry_run:
        return _Collection(repo, grace, wait, progress, clock, leaving or {}).rehearse()
    repo.check_writable()
    with exclusive(repo.storage, clock=clock):
        return _Collection(repo, grace, wait, progress, clock, recompress=recompress).run()


def undo(repo: Repository) -> tuple[int, int]:
    """Bring back everything that is in the trash; returns the packs, and their length.

    Raises ConflictError where a collection is at work.
    """
    repo.check_writable()
    with exclusive(repo.storage):
        found = dict(packs.trashed(repo.storage))
        size = sum(repo.storage.size(name) or 0 for name in found.values())
        _restore(repo.storage, found)
        return len(found), size


@dataclass(slots=True)
class _Collection:
    repo: Repository
    grace: float
    wait: float
    progress: Progress | None
    clock: Callable[[], float]
    leaving: Mapping[Oid, Dropped] = field(default_factory=dict)
    recompress: bool = False
    done: GcResult = field(default_factory=GcResult)

    def rehearse(self) -> GcResult:
        store = self._open()
        there = store.catalogue.index.packs
        wanted = self._wanted(Marker(store, progress=self._count))
        choice = repack.choose(there, wanted, rewritable={pack.id for pack in there})
        self._planned(there, repack.plan(there, choice))
        for _, name in packs.trashed(self.repo.storage):
            if self._is_due(name):
                self.done.removed += 1
                self.done.freed_bytes += self.repo.storage.size(name) or 0
        self._weigh_trash()
        return self.done

    def run(self) -> GcResult:
        repo, storage = self.repo, self.repo.storage
        unfinished = storage.names("tmp")
        before = self._open().catalogue.index.packs
        # Who published one of these packs, and has not moved a ref yet, is let finish: else its
        # pack would go to the trash and come back.
        drain(repo.leases, repo.refs, wait=self.wait)
        store = self._open()
        marker = Marker(store, progress=self._count)
        wanted = self._wanted(marker)
        self._complete(store, wanted)
        there = store.catalogue.index.packs
        ids = {pack.id for pack in before}
        old = [pack for pack in there if pack.id in ids]
        choice, plan, new = self._renew(store, wanted, old)
        new |= self._recompress(store, old, plan, choice)
        repack.prove_others(store.catalogue, there, plan.going, choice)
        self._planned(there, plan)
        going = [pack for pack in plan.going if pack.id not in new]
        self.done.written = len(new)
        self.done.saved_bytes = sum(pack.size for pack in going) - sum(
            size for made, size in new.items() if made not in ids
        )
        self._trash(going)
        # IMPORTANT: first the trash, then the leases, then the refs. A writer whose lease is gone
        # by then has moved its ref, or never will. What another collection moves to the trash after
        # this look at it is that one's to remove: the leases were not looked at since.
        lying = [name for _, name in packs.trashed(storage)]
        left = drain(repo.leases, repo.refs, wait=self.wait)
        wanted |= self._wanted(marker)
        self._complete(self._open(), wanted)
        self.done.waiting = len(left)
        if not left:
            self._sweep(lying)
            self._tidy(unfinished)
        self._weigh_trash()
        if new and self.done.commits >= _LONG:
            # Its commits lie in a few packs now, which no writer would make a ledger of.
            store = ObjectStore(storage, workers=1)
            store.refresh()
            compact(store.catalogue, storage, min_packs=1)
        return self.done

    def _open(self) -> ObjectStore:
        """Look at the packs as they are now, and at what they say themselves."""
        store = ObjectStore(self.repo.storage, workers=1)
        store.catalogue.recheck()
        return store

    def _wanted(self, marker: Marker) -> set[Oid]:
        """Return everything reachable from refs, including their former commits within the grace
        period."""
        # Before the refs: what is let go of after this is kept once more.
        marker.dropped = {**RetentionLog(self.repo.storage).table(strict=True), **self.leaving}
        firm: set[Oid] = set()
        recent: set[Oid] = set()
        for space in ("heads", "tags"):
            for records in self.repo.refs.strict_logs(space).values():
                for record in records:
                    if record.commit is not None and self._is_recent(record):
                        recent.add(record.commit)
                if records and records[-1].commit is not None:
                    firm.add(records[-1].commit)
        marker.mark(firm)
        return marker.marked | marker.mark_found(recent - firm)

    def _is_recent(self, record: RefRecord) -> bool:
        if not self.grace:
            return False
        try:
            made = timestamp.to_seconds(record.time)
        except ValueError:
            return True
        return self.clock() - made <= self.grace

    def _complete(self, store: ObjectStore, wanted: Iterable[Oid]) -> repack.FrameChoice:
        """Choose frames outside the trash, bringing packs back for what is only in there."""
        choice = repack.choose(store.catalogue.index.packs, wanted)
        while choice.missing:
            back: dict[str, str] = {}
            names = dict(packs.trashed(self.repo.storage))
            for oid in sorted(choice.missing):
                for pack, _ in store.catalogue.find_trashed(oid):
                    if pack.id in names:
                        back[pack.id] = names[pack.id]
            _restore(self.repo.storage, back)
            self.done.restored += len(back)
            store.refresh()
            found = repack.choose(store.catalogue.index.packs, wanted)
            if found.missing >= choice.missing:
                raise MissingObjectError(str(min(found.missing)))
            choice = found
        return choice

    def _renew(
        self, store: ObjectStore, wanted: set[Oid], old: list[Pack]
    ) -> tuple[repack.FrameChoice, repack.RepackPlan, dict[str, int]]:
        """Write the new packs, as many as there is room for; returns their ids and lengths too."""
        there, staying = store.catalogue.index.packs, set[str]()
        while True:
            going = {pack.id for pack in old} - staying
            choice = repack.choose(there, wanted, rewritable=going)
            plan = repack.plan((pack for pack in old if pack.id in going), choice)
            new = self._rewrite(store, plan.rewritten, choice)
            if new is not None:
                return choice, plan, new
            # No room. What can go with a small copy, or without one, goes all the same: that makes
            # some. A pack of a commit that was forgotten holds little more than its message.
            staying |= plan.costly()

    def _rewrite(
        self, store: ObjectStore, sources: list[Pack], choice: repack.FrameChoice
    ) -> dict[str, int] | None:
        """Write the new packs; returns their ids and lengths, None where there is no room."""
        try:
            return repack.rewrite(
                self.repo.storage,
                store.catalogue,
                sources,
                choice,
                lambda size: self._report("copying", size),
                recompress=self.recompress,
            )
        except GradientIOError as error:
            if error.errno not in NO_ROOM:
                raise
            if not self.done.full:
                _LOG.warning("no room to rewrite packs: %s", error)
            self.done.full = True
            return None

    def _recompress(
        self,
        store: ObjectStore,
        old: list[Pack],
        plan: repack.RepackPlan,
        choice: repack.FrameChoice,
    ) -> dict[str, int]:
        """Write what stays in a stronger form, where that pays; it joins what goes."""
        going = {pack.id for pack in plan.going}
        staying = [pack for pack in old if pack.id not in going] if self.recompress else []
        new: dict[str, int] = {}
        try:
            for pack, made, size in repack.recompress(
                self.repo.storage,
                store.catalogue,
                staying,
                choice,
                lambda size: self._report("recompressing", size),
            ):
                new[made] = size
                plan.rewritten.append(pack)
        except GradientIOError as error:
            if error.errno not in NO_ROOM:
                raise
            _LOG.warning("no room to recompress all packs: %s", error)
            self.done.full = True
        self.done.recompressed = len(new)
        return new

    def _planned(self, there: list[Pack], plan: repack.RepackPlan) -> None:
        self.done.packs = len(there)
        self.done.stored_bytes = sum(pack.size for pack in there)
        self.done.dead, self.done.rewritten = len(plan.dead), len(plan.rewritten)
        self.done.trashed_bytes = sum(pack.size for pack in plan.going)
        self.done.saved_bytes = plan.saved_bytes

    def _trash(self, going: list[Pack]) -> None:
        when = datetime.fromtimestamp(self.clock(), UTC).strftime(_COLLECTION)
        collection = f"{when}-{uuid.uuid4().hex[:8]}"
        targets = {pack.name: packs.trashed_name_of(collection, pack.id) for pack in going}
        if len(self.repo.storage.move_all(targets)) < len(targets):
            self.done.full = True
        self._report("moving to the trash", len(targets))

    def _sweep(self, lying: list[str]) -> None:
        """Remove for good what has been in the trash for long enough."""
        for name in filter(self._is_due, lying):
            size = self.repo.storage.size(name)
            if size is not None:  # else it was brought back
                self.repo.storage.remove(name)
                self.done.removed += 1
                self.done.freed_bytes += size
                self._report("removing", 1)

    def _is_due(self, name: str) -> bool:
        since = since_of(name)
        return not self.grace or (since is not None and self.clock() - since >= self.grace)

    def _tidy(self, unfinished: list[str]) -> None:
        """Remove what writers left unfinished long ago."""
        for entry in filter(_UNFINISHED.fullmatch, unfinished):
            name = f"tmp/{entry}"
            if self.repo.storage.idle(name) > _STALE:
                self.repo.storage.remove(name)

    def _weigh_trash(self) -> None:
        sizes = [self.repo.storage.size(name) for _, name in packs.trashed(self.repo.storage)]
        there = [size for size in sizes if size is not None]
        self.done.in_trash, self.done.in_trash_bytes = len(there), sum(there)

    def _count(self, commits: int) -> None:
        self.done.commits += commits
        self._report("marking", commits)

    def _report(self, what: str, count: int) -> None:
        if self.progress is not None:
            self.progress(what, count)


def since_of(name: str) -> float | None:
    """Return when a pack in the trash was moved there, in seconds since 1970; None: unknown."""
    try:
        when = datetime.strptime(packs.collection_of(name).partition("-")[0], _COLLECTION)
    except ValueError:
        return None
    return when.replace(tzinfo=UTC).timestamp()


def _restore(storage: Storage, names: dict[str, str]) -> None:
    storage.move_all({name: packs.name_of(pack_id) for pack_id, name in names.items()})
