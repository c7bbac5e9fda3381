"""The repair of a damaged repo: saves what is intact, and never deletes or overwrites anything.

Damaged files move to ``lost+found/``, and their intact content is written again. A repair that was
killed can therefore be repeated (packs in ``lost+found/`` are searched for missing objects), and a
wrong one undone. Objects that are still missing are fetched from other repos. No ref moves, and
unreachable commits stay unreachable.
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
"""The folder for damaged files, inside the repo's own folder."""

_MOVED: Final = {
    *("pack-replaced", "ref-replaced", "head-replaced", "head-malformed", "ledger-malformed"),
    *("ledger-wrong", "record-large", "record-torn", "record-malformed", "record-check"),
    *("record-misplaced", "retention-replaced", "retention-large", "retention-torn"),
    *("retention-malformed", "retention-check", "retention-misplaced"),
}
"""The classes of findings whose file is moved aside as it is."""

_RECORDS: Final = ("record-", "retention-", "ref-replaced")
"""The prefixes of the classes of records, of refs and of retention."""

_LOST_OBJECTS: Final = {"object-missing", "object-damaged", "ref-tip-lost"}

_CONFIG: Final = {"config-missing", "config-replaced", "config-malformed", "config-unversioned"}


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a repair."""

    what: str
    """``moved``, ``saved``, ``fetched``, ``restored``, ``written`` or ``failed``."""
    path: str
    """The file, relative to the repo's folder."""
    detail: str
    """The result."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A repair, with the reports from before and after."""

    before: FsckReport
    after: FsckReport
    actions: tuple[Action, ...]
    """The actions, in order."""

    healed: tuple[str, ...]
    """The revisions of the commits that can be restored again."""

    @property
    def lost(self) -> tuple[str, ...]:
        """The revisions of the commits that still cannot be restored."""
        return self.after.damaged


def repair(
    root: str,
    *,
    sources: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> Repaired:
    """Save all intact data, with the help of other repos: `sources`, and those of the workspace.

    Checks every frame before and after. Raises FormatVersionError for a repo of a newer version,
    ForeignRepoError for a repo of the published package, and ConflictError if a collection or
    another repair is running.
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
        """Move invalid records aside, and misplaced valid ones to their own place.

        IMPORTANT: only after all writers have ended. On file systems without hard links, a file
        gets its name before its content: a record that is being written looks torn, and may be
        acknowledged by now.
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
        """Move damaged packs aside, then write their intact objects again.

        IMPORTANT: all packs are moved before one is written. Otherwise a pack under another pack's
        name could be replaced by that other pack, while it holds the only copy of its own objects.
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
        """Fetch the objects that are still missing from other places."""
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
        """Move a file of the repo aside; return its new path. Existing files keep their names."""
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
        """Put a valid record back under its own number, if that number is free."""
        storage = DirectoryStorage(paths.inside(self.check.root))
        if storage.put_if_absent(name, raw):
            path = f"{paths.REPO_FOLDER}/{name}"
            self.actions.append(Action("restored", path, "the record names this as its place"))

    def _write_config(self, finding: Finding) -> None:
        """Write the repo's config again, keeping the readable fields of the old one."""
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
    """Report that records stay in place because writers have not ended."""
    if any(held.owner.runs() for held in left):
        return "a commit is being written; repair once more when it has ended"
    return (
        "another machine, or this one before it was restarted, began a commit and may still be "
        "writing it; one hour after that it counts as ended: repair once more then"
    )
