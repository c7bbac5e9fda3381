"""Writers in the middle of a commit, found by the leases that they hold.

The lease of a dead process stays until the next garbage collection. It counts here until its branch
moves: until then, its commit was cut off. This compares clocks of several machines, because the
result is only shown to people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from gradient.errors import GradientIOError
from gradient.objects import timestamp
from gradient.repo.repository import Repository
from gradient.store.leases import HeldLease

State: TypeAlias = Literal["writing", "cut off", "unknown"]
"""The writer runs; it ended before its branch moved; it is on another machine."""
_STATES: Final[dict[bool | None, State]] = {True: "writing", False: "cut off", None: "unknown"}
_HEADS: Final = "heads/"


@dataclass(frozen=True, slots=True)
class ActiveWriter:
    """A commit that was started and is not acknowledged."""

    branch: str
    """The branch of the commit."""
    state: State
    """The state of its writer."""
    process: int
    """The process id of the writer on its machine."""
    since: str
    """The time it started, in UTC, by the writer's clock."""


def unfinished(repo: Repository) -> list[ActiveWriter]:
    """Return the commits being written and those that were cut off, the oldest first."""
    writers = []
    for held in sorted(repo.leases.held(), key=lambda held: held.since):
        state = _STATES[held.owner.runs()]
        # A lease has whole seconds: moves within its first second came before it.
        after = timestamp.from_seconds(held.since + 1)
        for branch in _branches(repo, held):
            if state == "writing" or not _moved(repo, branch, after):
                since = timestamp.from_seconds(held.since)
                writers.append(ActiveWriter(branch, state, held.owner.process, since))
    return writers


def _branches(repo: Repository, held: HeldLease) -> list[str]:
    try:
        refs = repo.leases.refs(held) or []
    except GradientIOError:
        return []
    return [ref.removeprefix(_HEADS) for ref in refs if ref.startswith(_HEADS)]


def _moved(repo: Repository, branch: str, after: str) -> bool:
    record = repo.refs.read(branch)
    return record is not None and record.time >= after
