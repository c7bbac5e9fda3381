"""The last command line that trained in a repo, which can be repeated after a crash.

``last-run.json`` is written for people. It is replaced as a whole, never synced, and harmless to
lose.
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
"""The number of commits searched for one that a run made."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """A command line."""

    command: str
    """The command, quoted for a shell."""
    cwd: str
    """The folder that it ran in."""
    time: str
    """The time of its start, or of the commit that records it; UTC."""
    launch: str | None = None
    """The launch (``resume main@100``); None if unknown."""


def record(repo_path: str, run: LastRun) -> None:
    """Record a command that is about to run."""
    json_files.write(paths.inside(repo_path, _NAME), asdict(run))


def last_run(repo: Repository, commits: Sequence[CommitRecord]) -> LastRun | None:
    """Return the newest known command: the recorded one, or that of a commit's environment.

    The first of `commits` that a run made counts.
    """
    known = [run for run in (noted(repo.path), *_committed(repo, commits)) if run is not None]
    return max(known, key=lambda run: run.time, default=None)


def branch_moved_by(repo: Repository, reason: str) -> str | None:
    """Return the branch that was moved last for `reason`; None if no branch was.

    With the reason of a launch, it is the branch of that launch, even after the run diverted.
    """
    times = {
        branch: max((r.time for r in repo.refs.log(branch) if r.reason == reason), default="")
        for branch in repo.branches()
    }
    newest = max(times, key=times.__getitem__, default=None)
    return newest if newest is not None and times[newest] else None


def noted(repo_path: str) -> LastRun | None:
    """Return the recorded command; None if the file is missing or damaged."""
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
