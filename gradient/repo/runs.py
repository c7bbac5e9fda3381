"""The command line that trained here last, so that it can be typed again after a crash.

A note for people, beside the store: replaced as a whole, never synced, harmless to lose.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.commit import Commit
from gradient.objects.oid import Kind
from gradient.objects.tree import Tree
from gradient.repo import documents, layout
from gradient.repo.config import timestamp
from gradient.repo.repository import Repository
from gradient.storage import fs

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


def record(repo_path: str, command: str, *, cwd: str, launch: str | None = None) -> None:
    """Note a command that is about to run."""
    run = LastRun(command, cwd, timestamp(), launch)
    raw = json.dumps(asdict(run), indent=2, ensure_ascii=False)
    fs.replace_file(layout.inside(repo_path, _NAME), raw.encode("utf-8") + b"\n")


def last_run(repo: Repository, commits: Sequence[Commit]) -> LastRun | None:
    """Return the newest command known: the note, or what one of the commits says it came from.

    `commits` are looked through for one that a run made, in the order given.
    """
    known = [*_noted(repo.path), *_committed(repo, commits)]
    return max(known, key=lambda run: run.time, default=None)


def _noted(repo_path: str) -> Iterator[LastRun]:
    try:
        note = documents.read(layout.inside(repo_path, _NAME))
    except MalformedObjectError:
        return  # a power cut may leave an empty file
    if note is not None:
        command, cwd, time, launch = (
            documents.text(note, name) for name in ("command", "cwd", "time", "launch")
        )
        if command and cwd and time:
            yield LastRun(command, cwd, time, launch)


def _committed(repo: Repository, commits: Sequence[Commit]) -> Iterator[LastRun]:
    for commit in commits[:MOST_COMMITS]:
        if commit.environment is None:
            continue
        tree = trees.parse(repo.store.read(commit.environment, Kind.TREE))
        if isinstance(tree, Tree):
            command, cwd = tree.entries.get("command"), tree.entries.get("cwd")
            if type(command) is str and type(cwd) is str and command:
                yield LastRun(command, cwd, commit.time)
                return
