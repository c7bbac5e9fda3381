"""Writers in the middle of a commit, as another process can tell: by the leases they hold.

A lease of a process that is gone stays until a collection. It counts here while the branch has not
moved since: then what was being written was cut off. (That looks at clocks, and may: it is for
people, and nothing follows from it.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from gradient.errors import GradientIOError
from gradient.objects import timestamp
from gradient.repo.repository import Repository
from gradient.store.leases import Held

State: TypeAlias = Literal["writing", "cut off", "unknown"]
"""The writer runs; it ended before its branch moved; it belongs to another machine."""
_STATES: Final[dict[bool | None, State]] = {True: "writing", False: "cut off", None: "unknown"}
_HEADS: Final = "heads/"


@dataclass(frozen=True, slots=True)
class ActiveWriter:
    """A commit that was begun and has not been acknowledged."""

    branch: str
    """Where it goes."""
    state: State
    """How its writer is."""
    process: int
    """The writer's number on its machine."""
    since: str
    """When it began; UTC, by the writer's clock."""


def unfinished(repo: Repository) -> list[ActiveWriter]:
    """Return what is being written, and what was cut off; the oldest first."""
    found = []
    for held in sorted(repo.leases.held(), key=lambda held: held.since):
        state = _STATES[held.owner.runs()]
        # A lease tells whole seconds: what the branch did within its first one came before it.
        after = timestamp.from_seconds(held.since + 1)
        for branch in _branches(repo, held):
            if state == "writing" or not _moved(repo, branch, after):
                since = timestamp.from_seconds(held.since)
                found.append(ActiveWriter(branch, state, held.owner.process, since))
    return found


def _branches(repo: Repository, held: Held) -> list[str]:
    try:
        refs = repo.leases.refs(held) or []
    except GradientIOError:
        return []
    return [ref.removeprefix(_HEADS) for ref in refs if ref.startswith(_HEADS)]


def _moved(repo: Repository, branch: str, after: str) -> bool:
    record = repo.refs.read(branch)
    return record is not None and record.time >= after
