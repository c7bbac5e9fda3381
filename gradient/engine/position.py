"""Where a run stands: on which line, at which step, after which commit."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gradient.engine.commit.background import Background
from gradient.engine.commit.commit_future import CommitFuture
from gradient.engine.commit.commit_handle import Revision
from gradient.engine.restore import Restored
from gradient.objects.canonical import Json
from gradient.repo.branch_writer import BranchWriter


@dataclass(slots=True)
class Position:
    """One run's place. It refers to no live object of the script's, and so keeps none alive."""

    line: BranchWriter
    """Where the next commit goes."""
    step: int = 0
    """0 on a fresh run, the restored step, then the last commit's."""
    restored: Restored | None = None
    """The commit that the run was put back to."""
    last: Revision | None = None
    """What was committed last, since then."""
    origin: dict[str, Any] | None = None
    """What a warm start took from where, until it is recorded."""
    claimed: set[str] = field(default_factory=set)
    """Registered states that are live: they are as new as the model, or newer than `restored`."""
    behind: Background | None = None
    """What writes its commits behind the loop."""
    pid: int = field(default_factory=os.getpid)
    """The process it is about."""
    _asked: str = ""
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._asked = self.line.branch

    def goes_on(self, line: BranchWriter) -> bool:
        """Whether a second attach, asking for this line, means the run that stands here.

        It does where it asks for the branch that this run is on, or for the one that it began
        with; then the run stands on the second one's repo.
        """
        if line.repo.path != self.line.repo.path:
            return False
        if line.branch not in (self.line.branch, self._asked):
            return False
        self.line.repo = line.repo
        return True

    def moved(self, line: BranchWriter, restored: Restored, *, claimed: Iterable[str]) -> None:
        """Stand at a commit that the run, with its registered states, was put back to."""
        self.line, self.restored, self.step = line, restored, restored.commit.step
        self.claimed = set(claimed)
        self.last = self.origin = None

    def committed(self, revision: Revision) -> None:
        """Stand at a commit that was just made."""
        self.last, self.step, self.origin = revision, revision.step, None

    def failed(self, outcome: CommitFuture, *, idle: bool) -> None:
        """Take back a commit in the background that was not made; `idle`: no later one pends."""
        if self.origin is None:
            self.origin = outcome.origin
        if self.last is not None and self.last.is_of(outcome):
            self.last = None
        if idle:
            self.step = self.line.last_step()

    def carried(self, captured: Collection[str]) -> dict[str, Json]:
        """Return the restored components that nobody captures: the next commit takes them over."""
        entries = {} if self.restored is None else self.restored.entries
        return {name: node for name, node in entries.items() if name not in captured}

    def unclaimed(self, carried: Iterable[str]) -> Iterator[str]:
        """Yield what to say about carried components: once for each, however often it resumes."""
        fresh = sorted(set(carried) - self._told)
        self._told.update(fresh)
        if fresh and self.restored is not None:
            yield (
                f"{', '.join(fresh)} of {self.restored.commit.revision}: nobody registered it in "
                f"this run; it is carried forward unchanged (register_state to use it)"
            )
