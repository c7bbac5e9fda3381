"""What can be saved of a damaged repo, without deleting or overwriting anything.

Damaged files move to ``lost+found/``, and what is intact in them is written anew; nothing is ever
removed or overwritten. So a repair that was killed can be repeated (packs that lie in
``lost+found/`` are searched for what is missing), and one that was wrong undone. What is lost all
the same is looked for in other repos. No ref is moved, and no commit that was out of reach comes
back by itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from gradient.errors import FormatVersionError, GradientIOError, MalformedObjectError
from gradient.maintenance.fsck import refetch, settings
from gradient.maintenance.fsck.check import Check, Progress
from gradient.maintenance.fsck.findings import Finding, FsckReport
from gradient.maintenance.fsck.refs import check_refs
from gradient.maintenance.fsck.retention import check_retention
from gradient.maintenance.fsck.salvage import Salvage
from gradient.maintenance.lease_drain import WAIT, drain
from gradient.maintenance.lock import exclusive
from gradient.objects import timestamp
from gradient.objects.oid import Oid
from gradient.repo import json_files, paths
from gradient.repo.foreign_files import refuse_without_store
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store import pack as packs
from gradient.store.leases import HeldLease, Leases
from gradient.store.refs import Refs

LOST: Final = "lost+found"
"""Where damaged files go, inside of the repo's own folder."""

_MOVED: Final = {
    *("pack-replaced", "ref-replaced", "head-replaced", "head-malformed", "ledger-malformed"),
    *("ledger-wrong", "record-large", "record-torn", "record-malformed", "record-check"),
    *("record-misplaced", "retention-replaced", "retention-large", "retention-torn"),
    *("retention-malformed", "retention-check", "retention-misplaced"),
}
"""The classes whose file is moved aside as it is."""

_RECORDS: Final = ("record-", "retention-", "ref-replaced")
"""How the classes of records begin, of refs and of retention."""

_LOST_OBJECTS: Final = {"object-missing", "object-damaged", "ref-tip-lost"}

_CONFIG: Final = {"config-missing", "config-replaced", "config-malformed", "config-unversioned"}


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was done."""

    what: str
    """``moved``, ``saved``, ``fetched``, ``restored``, ``written`` or ``failed``."""
    path: str
    """Which file, relative to the repo's folder."""
    detail: str
    """What became of it."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A repair, with the reports from before and after."""

    before: FsckReport
    after: FsckReport
    actions: tuple[Action, ...]
    """What was done, in order."""

    healed: tuple[str, ...]
    """The revisions of the commits that can be restored again."""

    @property
    def lost(self) -> tuple[str, ...]:
        """The revisions of the commits that can not be restored."""
        return self.after.damaged


def repair(
    root: str,
    *,
    sources: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> Repaired:
    """Save what can be saved, with the help of other repos: `sources`, and those of the workspace.

    Every frame is looked at before and after. Raises FormatVersionError for a repo of a newer
    version, ForeignRepoError for one of the published package, ConflictError where a collection or
    another repair is at work.
    """
    root = fs.absolute(root)
    refuse_without_store(root)
    _refuse(root, settings.check_config(root))
    if fs.kind(paths.inside(root)) != "folder":
        found = Check(root, workers).run(progress=progress)
        return Repaired(found, found, (), ())
    with exclusive(DirectoryStorage(paths.inside(root))):
        return _repair(root, sources, workers, progress)


def _repair(root: str, sources: Sequence[str], workers: int | None, progress: Progress) -> Repaired:
    check = Check(root, workers)
    before = check.run(progress=progress)
    _refuse(root, before.findings)
    done = _Repair(check, before, sources)
    done.run()
    if not done.actions:
        return Repaired(before, before, (), ())
    again = Check(root, workers)
    after = again.run(progress=progress)
    healed = set(before.damaged_ids) - set(after.damaged_ids)
    names = tuple(name for oid, name in again.objects.names.items() if str(oid) in healed)
    return Repaired(before, after, tuple(done.actions), names)


def _refuse(root: str, findings: Iterable[Finding]) -> None:
    for each in findings:
        if each.id in ("config-version", "pack-version"):
            raise FormatVersionError(f"{root} was not repaired: {each.path}: {each.message}")


@dataclass(slots=True)
class _Repair:
    check: Check
    report: FsckReport
    sources: Sequence[str]
    actions: list[Action] = field(default_factory=list)

    def run(self) -> None:
        for finding in self.report.findings:
            if finding.id in _CONFIG:
                self._attempt(finding.path, self._write_config, finding)
        self._save_packs()
        self._refetch()
        moved = [finding for finding in self.report.findings if finding.id in _MOVED]
        for finding in moved:
            if not finding.id.startswith(_RECORDS):
                self._attempt(finding.path, self._move, finding.path)
        if any(finding.id.startswith(_RECORDS) for finding in moved):
            self._attempt(f"{paths.REPO_FOLDER}/refs", self._move_records)

    def _move_records(self) -> None:
        """Move records aside that do not count, and whole ones to where they belong.

        IMPORTANT: only once whoever was writing has ended. Where a file gets its name before its
        content (no hard links), one that is being written looks torn, and may be acknowledged by
        now.
        """
        storage = DirectoryStorage(paths.inside(self.check.root))
        left = drain(Leases(storage), Refs(storage), wait=WAIT)
        refs = check_refs(self.check.root)
        for finding in [*refs.findings, *check_retention(self.check.root).findings]:
            if finding.id not in _MOVED:
                continue
            if left:
                self.actions.append(Action("failed", finding.path, _why_not(left)))
            else:
                self._attempt(finding.path, self._move, finding.path)
        for name, raw in () if left else refs.misplaced.items():
            self._attempt(name, self._restore_record, name, raw)

    def _attempt(self, path: str, action: Callable[..., object], *arguments: object) -> None:
        try:
            action(*arguments)
        except GradientIOError as error:
            self.actions.append(Action("failed", path, str(error)))

    def _save_packs(self) -> None:
        """Move damaged packs aside, then write what is intact in them.

        IMPORTANT: all are moved before one is written: a pack that lies under another's name would
        else be replaced by that other one, while the only copy of its own objects is in it.
        """
        salvage = Salvage(self.check)
        moved: dict[str, str] = {}
        for name in [*self.check.shelf.broken, *sorted(self.check.frames.damaged)]:
            shown = f"{paths.REPO_FOLDER}/{packs.FOLDER}/{name}"
            rows = salvage.rows(name)
            kept = self._move(shown)
            if kept is not None:
                moved[kept] = paths.beside(self.check.root, shown)
                salvage.take(kept, rows)
        if any(
            finding.id in ("object-missing", "ref-tip-lost") for finding in self.report.findings
        ):
            folder = paths.inside(self.check.root, LOST, packs.FOLDER)
            for name in fs.names(folder):
                salvage.take(f"{folder}/{name}", None)
        try:
            for source, pack_id, count in salvage.write():
                moved.pop(source, None)
                target = f"{paths.REPO_FOLDER}/{packs.name_of(pack_id)}"
                shown = str(PurePath(source).relative_to(self.check.root))
                self.actions.append(Action("saved", target, f"{count} objects of {shown}"))
        except GradientIOError:
            # No room, as a rule. What is intact in them is of more use where it was.
            for kept, place in moved.items():
                if fs.kind(place) is None:
                    fs.rename(kept, place)
            raise

    def _refetch(self) -> None:
        """Take what is lost all the same from where else it is."""
        findings = [each for each in self.report.findings if each.id in _LOST_OBJECTS]
        lost = {Oid.parse(each.oid) for each in findings if each.oid is not None}
        lost |= {fault.row.base for fault in self.check.frames.faults if fault.row.base is not None}
        if not lost:
            return
        for source in refetch.places(self.check.root, self.sources):
            count = sum(refetch.refetch(self.check.root, lost, source))
            if count:
                place = f"{paths.REPO_FOLDER}/{packs.FOLDER}"
                self.actions.append(Action("fetched", place, f"{count} objects of {source}"))

    def _move(self, path: str) -> str | None:
        """Move a file of the repo aside and return where to; what lies there keeps its name."""
        source = paths.beside(self.check.root, path)
        if fs.kind(source) is None:
            return None
        inside = str(PurePath(path).relative_to(paths.REPO_FOLDER))
        target = paths.inside(self.check.root, LOST, inside)
        fs.make_folders(str(PurePath(target).parent), durable=True)
        if fs.kind(target) is not None:
            target += f".{uuid.uuid4().hex[:8]}"
        fs.move(source, target)
        kept = str(PurePath(target).relative_to(self.check.root))
        self.actions.append(Action("moved", path, kept))
        return target

    def _restore_record(self, name: str, raw: bytes) -> None:
        """Put a whole record back under the number that it names, where nothing has it."""
        storage = DirectoryStorage(paths.inside(self.check.root))
        if storage.put_if_absent(name, raw):
            path = f"{paths.REPO_FOLDER}/{name}"
            self.actions.append(Action("restored", path, "the record names this as its place"))

    def _write_config(self, finding: Finding) -> None:
        """Write what a repo's config must say, keeping what the old one says and can be read."""
        kept = dict(self._texts())
        if finding.id != "config-missing":
            self._move(finding.path)
        document = {
            "format": paths.FORMAT,
            "repo_name": kept.get("repo_name", PurePath(self.check.root).name),
            "description": kept.get("description", ""),
            "created_at": kept.get("created_at", timestamp.now()),
        }
        json_files.write_durable(paths.inside(self.check.root, paths.CONFIG), document)
        self.actions.append(Action("written", finding.path, "name and date may have to be set"))

    def _texts(self) -> Iterator[tuple[str, str]]:
        try:
            document = json_files.read(paths.inside(self.check.root, paths.CONFIG))
        except (GradientIOError, MalformedObjectError):
            return
        if document is not None:
            yield from ((k, v) for k, v in document.items() if type(v) is str and type(k) is str)


def _why_not(left: Sequence[HeldLease]) -> str:
    """Say why records stay where they are: because of writers that have not ended."""
    if any(held.owner.runs() for held in left):
        return "a commit is being written; repair once more when it has ended"
    return (
        "another machine, or this one before it was restarted, began a commit and may still be "
        "writing it; one hour after that it counts as ended: repair once more then"
    )
