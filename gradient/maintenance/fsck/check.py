"""The check of one repo, as one report. Reads, and never writes."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import cache
from pathlib import PurePath
from typing import Final, TypeAlias

from gradient.errors import ContextError, GradientError, GradientIOError
from gradient.maintenance.fsck import derived, packs, settings
from gradient.maintenance.fsck.findings import Finding, FsckReport, ordered
from gradient.maintenance.fsck.frames import Fault, FrameCheck, Verified
from gradient.maintenance.fsck.objects import ObjectCheck
from gradient.maintenance.fsck.pack_scan import Scanned, scan
from gradient.maintenance.fsck.refs import RefCheck, check_refs, path_of
from gradient.maintenance.fsck.retention import RetentionCheck, check_retention
from gradient.objects.oid import Kind, Oid
from gradient.repo import paths
from gradient.repo.config import RepoConfig
from gradient.repo.foreign_files import refuse_without_store
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.store import pack, ref_names
from gradient.store.object_index import ObjectIndex
from gradient.store.pack_format import FrameRow
from gradient.store.thread_pool import ThreadPool

Progress: TypeAlias = Callable[[str, int, int | None], object]
"""Called with the current step, the amount done, and the total if it is known."""

_STOPS: Final = {"config-version", "folder-replaced"}
"""The findings after which the check stops."""

_MOST_LOOKS: Final = 5
"""The maximum number of repeated checks of new packs, if objects were missing and packs have
changed.
"""


def check(
    path: str | os.PathLike[str],
    *,
    quick: bool = False,
    subset: tuple[int, int] | None = None,
    max_time: float | None = None,
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> FsckReport:
    """Check a repo; damage is reported, not raised.

    Raises ContextError if there is no repo, and ForeignRepoError for a repo of the published
    package. `quick` skips the frames that the history walk does not need. `subset` (n, t) checks
    the frames of the nth of t parts of the packs, always the same ones. `max_time`, in seconds,
    limits the check of frames, which starts at another pack each time.
    """
    root = fs.absolute(path)
    if fs.kind(paths.inside(root)) is None:
        raise ContextError(f"{root} is not a repo; make it one: gradient repo init")
    refuse_without_store(root)
    return Check(root, workers).run(quick, subset, max_time, progress)


class Check:
    """One check of one repo; `repair` continues from its results."""

    def __init__(self, root: str, workers: int | None = None) -> None:
        self.root = root
        self.findings: list[Finding] = []
        self.shelf = packs.Shelf()
        self.refs = RefCheck()
        self.retention = RetentionCheck()
        self.frames = Verified()
        self.index = ObjectIndex()
        self.repo = Repository(RepoConfig(PurePath(root).name, root), workers=workers)
        self.decoder = FrameCheck(root, self.repo.store, self.index, _pool(workers))
        self.objects = ObjectCheck(self.repo.store, self.index, ())

    def run(
        self,
        quick: bool = False,
        subset: tuple[int, int] | None = None,
        max_time: float | None = None,
        progress: Progress = lambda *_: None,
    ) -> FsckReport:
        """Look at everything, and report."""
        self.findings += settings.check_folders(self.root)
        self.findings += settings.check_config(self.root)
        self.findings += settings.check_workspace(self.root)
        if _STOPS.isdisjoint(finding.id for finding in self.findings):
            self._look(quick, subset, max_time, progress)
        damaged = [oid for oid, bad in self.objects.bad.items() if bad]
        whole = not quick and subset is None and self.frames.complete
        return FsckReport(
            findings=ordered(self.findings),
            commits=len(self.objects.bad),
            damaged=tuple(self.objects.names[oid] for oid in damaged),
            damaged_ids=tuple(map(str, damaged)),
            packs=len(self.shelf.sound) + len(self.shelf.broken) + len(self.shelf.newer),
            frames=self.frames.frames,
            read_bytes=self.frames.bytes,
            all_bytes=self.shelf.bytes,
            complete=whole,
        )

    def _look(
        self,
        quick: bool,
        subset: tuple[int, int] | None,
        max_time: float | None,
        progress: Progress,
    ) -> None:
        deadline = None if max_time is None else time.monotonic() + max_time
        for _ in range(_MOST_LOOKS):
            before = self._pack_names()
            # IMPORTANT: refs first, as every reader: what they name then is in a pack by now.
            self.refs = check_refs(self.root)
            self._list_packs()
            self._verify(quick, subset, deadline, progress)
            self._walk(progress)
            strays = list(self._stray())
            # Where packs came or went meanwhile, what is missing may lie elsewhere by now, or be
            # needed by nobody any more.
            if not self._lacks_something() or before == self._pack_names():
                break
        self.findings += strays
        self.objects.conclude()
        self._conclude(quick)

    def _list_packs(self) -> None:
        self.shelf = packs.sort_out(self.root)
        sound = {each.id for each in self.shelf.sound}
        for pack_id in self.index.ids - sound:
            self.index.drop(pack_id)
        self.index.add(each for each in self.shelf.sound if each.id not in self.index)
        self.repo.store.problems  # noqa: B018 - from now on footers are believed, not ledgers

    def _lacks_something(self) -> bool:
        """Tell whether anything was not found, that something needs."""
        faults = any("base" in fault.word for fault in self.frames.faults)
        return faults or any(self.objects.bad.values()) or bool(self.objects.findings)

    def _pack_names(self) -> list[str]:
        return fs.names(paths.inside(self.root, pack.FOLDER))

    def _walk(self, progress: Progress) -> None:
        lost = set(self._lost())
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("commits", done, None)

        self.retention = check_retention(self.root)
        named = self.refs.named()
        dropped = {oid: what for oid, what in self.retention.dropped().items() if oid not in named}
        self.objects = ObjectCheck(self.repo.store, self.index, lost, advance, dropped)
        alive = [
            (oid, log.name, log.tip.commit)
            for oid, log, _ in self.refs.commits()
            if log.tip is not None
        ]
        for oid, name, tip in alive:
            if oid == tip:
                self.objects.walk(oid, name)
        for oid, name, _ in alive:  # what they stood on before: if it is there
            if oid not in self.objects.bad and self.index.find(oid):
                self._walk_past(oid, name)

    def _walk_past(self, oid: Oid, branch: str) -> bool:
        """Check an unreachable commit; return False if a garbage collection has half removed it.

        That is neither loss nor damage.
        """
        looked = len(self.objects.bad)
        self.objects.walk(oid, branch)
        fresh = list(self.objects.bad)[looked:]
        whole = all(self.index.find(bad) for each in fresh for bad in self.objects.bad[each])
        if not whole:
            self.objects.leave_out(fresh)
        return whole

    def _verify(
        self,
        quick: bool,
        subset: tuple[int, int] | None,
        deadline: float | None,
        progress: Progress,
    ) -> None:
        """Check the frames of the packs that were not checked yet."""
        sound = {each.id for each in self.shelf.sound}
        if quick:
            self.frames = Verified(self.decoder.chains(self.shelf.sound), complete=False)
            return
        # Where a base was not found before, it may be by now.
        doubtful = {fault.pack for fault in self.frames.faults if "base" in fault.word}
        self.frames.keep(sound - doubtful)
        chosen = [each for each in self.shelf.sound if each.id not in self.frames.read]
        if subset is not None:
            number, parts = subset
            chosen = [each for each in chosen if int(each.id[:8], 16) % parts == number - 1]
        if deadline is not None:
            chosen = random.Random(time.time_ns()).sample(chosen, len(chosen))
        total, done = sum(each.size for each in chosen), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress("bytes", done, total)

        self.decoder.verify(chosen, self.frames, deadline=deadline, progress=advance)
        if self.frames.read >= sound:
            return
        # What was not decoded may still be seen to lead nowhere.
        known = {(fault.pack, fault.row.offset) for fault in self.frames.faults}
        rest = self.decoder.chains(self.shelf.sound)
        self.frames.faults += [f for f in rest if (f.pack, f.row.offset) not in known]

    def _lost(self) -> Iterator[Oid]:
        """Yield the objects without an intact frame, among the checked frames."""
        wrong = {(fault.pack, fault.row.offset) for fault in self.frames.faults}
        for oid in {fault.row.oid for fault in self.frames.faults}:
            places = self.index.find(oid)
            if all((each.id, row.offset) in wrong for each, row in places):
                yield oid

    def _stray(self) -> Iterator[Finding]:
        """Check the unreachable commits, after the reachable ones."""
        reached = set(self.objects.bad)
        tips = {oid for oid, _, _ in self.refs.commits()}
        strays = [oid for oid in self.index.of_kind(Kind.COMMIT) if oid not in reached]
        for oid in strays:
            if not self._walk_past(oid, "?"):
                message = f"commit {oid} is not all there any more, and no branch leads to it"
                yield Finding("commit-unreachable", "", message, str(oid))
        parents = {p for oid in strays for p in self._parents(oid)}
        for oid in strays:
            if oid not in parents and oid not in tips and oid in self.objects.commits:
                name = self.objects.names[oid]
                message = f"commit {oid} ({name}) is in the store, and no branch leads to it"
                yield Finding("commit-unreachable", "", message, str(oid))

    def _parents(self, oid: Oid) -> tuple[Oid, ...]:
        commit = self.objects.commits.get(oid)
        return () if commit is None else commit.parents

    def _conclude(self, quick: bool) -> None:
        """Put the findings together, each with the commits that it concerns."""
        affected: dict[Oid, list[str]] = defaultdict(list)
        for commit, bad in self.objects.bad.items():
            for oid in bad:
                affected[oid].append(self.objects.names[commit])
        for oid in affected:
            finding = self.objects.explain(oid)
            if finding is not None:
                self.findings.append(replace(finding, commits=tuple(affected[oid])))
        self.findings += self.objects.findings
        self.findings += [_of_frame(fault, affected) for fault in self.frames.faults]
        self.findings += self.frames.findings
        self.findings += [
            self._of_pack(finding, affected, quick) for finding in self.shelf.findings
        ]
        self.findings += self.refs.findings
        self.findings += self._judge_refs()
        self.findings += self.retention.findings
        branches = [log.name for log in self.refs.logs if log.space == "heads" and log.tip]
        self.findings += settings.check_head(self.root, branches)
        self.findings += derived.check_ledgers(self.root, self.shelf.sound)
        self.findings += derived.check_leftovers(self.root)
        self.findings += self._judge_view()

    def _judge_refs(self) -> Iterator[Finding]:
        for oid, log, is_tip in self.refs.commits():
            if oid not in self.objects.commits:
                path = path_of(log.space, ref_names.quote(log.name))
                message = f"{log.space}/{log.name} names {oid}, which "
                if is_tip:
                    called = (self.objects.names.get(oid, f"{log.name} ({oid.short})"),)
                    yield Finding("ref-tip-lost", path, message + "is lost", str(oid), called)
                elif log.tip is not None:
                    message += "was collected, or is lost"
                    yield Finding("ref-commit-lost", path, message, str(oid))

    def _of_pack(self, finding: Finding, affected: dict[Oid, list[str]], quick: bool) -> Finding:
        """Add the commits that depend on the content of an unusable pack."""
        name = PurePath(finding.path).name
        if quick or not affected or name not in self.shelf.broken:
            return finding
        held = self.scan(paths.inside(self.root, pack.FOLDER, name)).named
        needed = dict.fromkeys(word for oid in held & affected.keys() for word in affected[oid])
        return replace(finding, commits=tuple(needed))

    def scan(self, path: str) -> Scanned:
        """Search a file that is, or was, a pack for frames."""
        try:
            with fs.open_file(path) as file:
                return scan(file, self._prove)
        except GradientIOError:
            return Scanned()

    def _prove(self, row: FrameRow, payload: memoryview) -> bool | None:
        fault = self.decoder.decode(row, payload)
        if fault is None:
            return True
        return None if "base" in fault[0] else False

    def _judge_view(self) -> Collection[Finding]:
        listed = None
        # Where the history is damaged, what should be listed can not be told.
        with contextlib.suppress(GradientError):
            listed = {entry.oid: entry.revision for entry in History(self.repo).newest()}
        return list(derived.check_view(self.root, self.objects.bad, listed))


@cache
def _pool(count: int | None) -> ThreadPool:
    """Return the threads that all checks of this process share: they never end."""
    return ThreadPool(count)


def _of_frame(fault: Fault, affected: dict[Oid, list[str]]) -> Finding:
    path = packs.path_of(f"{fault.pack}.pack")
    commits = tuple(affected.get(fault.row.oid, ()))
    return Finding(fault.word, path, fault.message, str(fault.row.oid), commits)
