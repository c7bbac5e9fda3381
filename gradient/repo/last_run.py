"""The command line that trained here last, so that it can be typed again after a crash.

A note for people, beside the store: replaced as a whole, never synced, harmless to lose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind
from gradient.objects.tree import Tree
from gradient.repo import json_files, paths
from gradient.repo.repository import Repository

_NAME: Final = "last-run.json"
MOST_COMMITS: Final = 50
"""So many commits are looked through for one that a run made."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """One command line."""

    command: str
    """As a shell would take it."""
    cwd: str
    """The folder it ran in."""
    time: str
    """When it was started, or the commit made that says so; UTC."""
    launch: str | None = None
    """What launched it (``resume main@100``), where that is known."""


def record(repo_path: str, run: LastRun) -> None:
    """Note a command that is about to run."""
    json_files.write(paths.inside(repo_path, _NAME), asdict(run))


def last_run(repo: Repository, commits: Sequence[CommitRecord]) -> LastRun | None:
    """Return the newest command known: the note, or what one of the commits says it came from.

    `commits` are looked through for one that a run made, in the order given.
    """
    known = [run for run in (noted(repo.path), *_committed(repo, commits)) if run is not None]
    return max(known, key=lambda run: run.time, default=None)


def branch_moved_by(repo: Repository, reason: str) -> str | None:
    """Return the branch that was moved last for `reason`; None where none ever was.

    With a launch's reason it is where that launch stands, also after it diverted to a new branch.
    """
    times = {
        branch: max((r.time for r in repo.refs.log(branch) if r.reason == reason), default="")
        for branch in repo.branches()
    }
    newest = max(times, key=times.__getitem__, default=None)
    return newest if newest is not None and times[newest] else None


def noted(repo_path: str) -> LastRun | None:
    """Return the note; None where there is none that can be read."""
    try:
        note = json_files.read(paths.inside(repo_path, _NAME))
    except MalformedObjectError:
        return None  # a power cut may leave an empty file
    command, cwd, time, launch = (
        json_files.text(note or {}, name) for name in ("command", "cwd", "time", "launch")
    )
    return LastRun(command, cwd, time, launch) if command and cwd and time else None


def _committed(repo: Repository, commits: Sequence[CommitRecord]) -> Iterator[LastRun]:
    for commit in commits[:MOST_COMMITS]:
        if commit.environment is None:
            continue
        tree = trees.parse(repo.store.read(commit.environment, Kind.TREE))
        if isinstance(tree, Tree):
            command, cwd = tree.entries.get("command"), tree.entries.get("cwd")
            if type(command) is str and type(cwd) is str and command:
                yield LastRun(command, cwd, commit.time)
                return
