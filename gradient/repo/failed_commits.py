"""Failed and skipped commits, recorded for other processes.

An engine that fails to write a commit, or skips it, writes a note; the branch's next commit removes
it. So a note describes the failures since the newest commit of the branch. There is one file per
branch, because a branch has one writer.

A note is derived: it is replaced as a whole, never synced and harmless to lose, and neither writing
nor removing it ever fails a commit. If the disk is too full for a note, only the log and the exit
status report the failure.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Final, Literal, TypeAlias

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.objects import timestamp
from gradient.repo import json_files, paths
from gradient.storage import fs
from gradient.store.ref_names import quote, unquote

_LOG = logging.getLogger("gradient")

_FOLDER: Final = "missed"
_MOST_LETTERS: Final = 500

How: TypeAlias = Literal["failed", "skipped"]
"""The fate of a commit: writing it raised an error, or the engine skipped it."""
_HOW: Final[dict[str | None, How]] = {"failed": "failed", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class FailedCommit:
    """The failed and skipped commits since a branch's newest commit."""

    branch: str
    """The branch of the commits."""
    step: int
    """The step of the last one."""
    how: How
    """The fate of the last one."""
    reason: str
    """The reason, in one line."""
    time: str
    """The time of the last one, in UTC."""
    failed: int
    """The number of failed commits since the newest commit."""
    skipped: int
    """The number of skipped commits since the newest commit."""


def note(repo_path: str, branch: str, step: int, how: How, reason: str) -> None:
    """Record one more commit that was not made; never fails."""
    path = _path(repo_path, branch)
    before = _read(path, branch)
    failed, skipped = (0, 0) if before is None else (before.failed, before.skipped)
    first = (reason.strip().splitlines() or [""])[0][:_MOST_LETTERS]
    noted = FailedCommit(
        branch,
        step,
        how,
        first,
        timestamp.now(),
        failed + (how == "failed"),
        skipped + (how == "skipped"),
    )
    facts = {name: value for name, value in asdict(noted).items() if name != "branch"}
    try:
        fs.make_folders(str(PurePath(path).parent), within=paths.inside(repo_path))
        json_files.write(path, facts)
    except GradientIOError as error:
        _LOG.debug("the failed commit was not recorded: %s", error)


def clear(repo_path: str, *branches: str) -> None:
    """Remove the notes of branches that have a newer commit or are deleted; never fails."""
    for branch in set(branches):
        fs.discard(_path(repo_path, branch))


def noted(repo_path: str) -> list[FailedCommit]:
    """Return all notes, sorted by branch; unreadable ones are left out."""
    folder = paths.inside(repo_path, _FOLDER)
    notes = []
    for name in fs.names(folder):
        branch = unquote(name)
        each = None if branch is None else _read(str(PurePath(folder, name)), branch)
        if each is not None:
            notes.append(each)
    return sorted(notes, key=lambda each: each.branch)


def _path(repo_path: str, branch: str) -> str:
    return paths.inside(repo_path, _FOLDER, quote(branch))


def _read(path: str, branch: str) -> FailedCommit | None:
    try:
        facts = json_files.read(path) or {}
    except (GradientIOError, MalformedObjectError):
        return None  # a power cut may leave an empty file
    how = _HOW.get(json_files.text(facts, "how"))
    reason, time = (json_files.text(facts, name) for name in ("reason", "time"))
    step, failed, skipped = (facts.get(name) for name in ("step", "failed", "skipped"))
    if type(step) is not int or type(failed) is not int or type(skipped) is not int:
        return None
    if how is None or reason is None or time is None:
        return None
    return FailedCommit(branch, step, how, reason, time, failed, skipped)
