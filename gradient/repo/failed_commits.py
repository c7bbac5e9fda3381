"""Commits that were asked for and not made, as another process can know of them.

An engine that fails to write a commit, or skips it, leaves a note beside the store; the next commit
of that branch takes the note away. So a note says: since the branch's newest commit, this went
wrong. One file for each branch, for there is one writer to a line.

A note is derived: replaced as a whole, never synced, harmless to lose, and neither writing nor
removing one ever fails a commit. Where a disk has not even room for the note, none is left: the log
and the process's exit status tell of the failure nevertheless.
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
"""What became of a commit: writing it raised an error, or it was left out on purpose."""
_HOW: Final[dict[str | None, How]] = {"failed": "failed", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class FailedCommit:
    """What a branch lacks since its newest commit."""

    branch: str
    """The branch that the commits were meant for."""
    step: int
    """The step of the last one."""
    how: How
    """What became of that one."""
    reason: str
    """Why, in one line."""
    time: str
    """When; UTC."""
    failed: int
    """How many failed since the newest commit."""
    skipped: int
    """How many were skipped since the newest commit."""


def note(repo_path: str, branch: str, step: int, how: How, reason: str) -> None:
    """Leave a note that one more commit was not made; never fails."""
    path = _path(repo_path, branch)
    before = _read(path, branch)
    failed, skipped = (0, 0) if before is None else (before.failed, before.skipped)
    first = (reason.strip().splitlines() or [""])[0][:_MOST_LETTERS]
    found = FailedCommit(
        branch,
        step,
        how,
        first,
        timestamp.now(),
        failed + (how == "failed"),
        skipped + (how == "skipped"),
    )
    facts = {name: value for name, value in asdict(found).items() if name != "branch"}
    try:
        fs.make_folders(str(PurePath(path).parent), within=paths.inside(repo_path))
        json_files.write(path, facts)
    except GradientIOError as error:
        _LOG.debug("no note of the commit that is missing: %s", error)


def clear(repo_path: str, *branches: str) -> None:
    """Take away what was noted of branches: they have a newer commit, or are gone; never fails."""
    for branch in set(branches):
        fs.discard(_path(repo_path, branch))


def noted(repo_path: str) -> list[FailedCommit]:
    """Return all notes, sorted by branch; one that cannot be read is as good as none."""
    folder = paths.inside(repo_path, _FOLDER)
    found = []
    for name in fs.names(folder):
        branch = unquote(name)
        each = None if branch is None else _read(str(PurePath(folder, name)), branch)
        if each is not None:
            found.append(each)
    return sorted(found, key=lambda each: each.branch)


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
