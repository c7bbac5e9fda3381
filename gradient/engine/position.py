"""The position of a run: its branch, its step, and the commit that it was restored from."""

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
    """One run's position. It refers to none of the script's live objects."""

    branch_writer: BranchWriter
    """Publishes the next commit."""
    step: int = 0
    """0 on a fresh run, the restored step after a resume, then the last commit's step."""
    restored: Restored | None = None
    """The commit that the run was restored from."""
    last: Revision | None = None
    """The last commit since then."""
    origin: dict[str, Any] | None = None
    """The source of a warm start, until a commit records it."""
    claimed: set[str] = field(default_factory=set)
    """The registered states that are live: as new as the model, or newer than `restored`."""
    background: Background | None = None
    """Writes the run's commits in the background."""
    pid: int = field(default_factory=os.getpid)
    """The process of the run."""
    _first_branch: str = ""
    _noticed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._first_branch = self.branch_writer.branch

    @property
    def branch(self) -> str:
        """The branch of the next commit."""
        return self.branch_writer.branch

    def continues_on(self, writer: BranchWriter) -> bool:
        """Return whether a second attach to this branch continues the run at this position.

        It does if the branch is the run's current branch or the one that it started on. The run
        then uses the second attach's repo.
        """
        if writer.repo.path != self.branch_writer.repo.path:
            return False
        if writer.branch not in (self.branch, self._first_branch):
            return False
        self.branch_writer.repo = writer.repo
        return True

    def moved(self, writer: BranchWriter, restored: Restored, *, claimed: Iterable[str]) -> None:
        """Move to a commit that the run and its registered states were restored from."""
        self.branch_writer, self.restored, self.step = writer, restored, restored.commit.step
        self.claimed = set(claimed)
        self.last = self.origin = None

    def committed(self, revision: Revision) -> None:
        """Move to a new commit."""
        self.last, self.step, self.origin = revision, revision.step, None

    def failed(self, future: CommitFuture, *, idle: bool) -> None:
        """Undo a background commit that failed; `idle` means that no later one is pending."""
        if self.origin is None:
            self.origin = future.origin
        if self.last is not None and self.last.is_of(future):
            self.last = None
        if idle:
            self.step = self.branch_writer.last_step()

    def carried(self, captured: Collection[str]) -> dict[str, Json]:
        """Return the restored components that were not captured: the next commit keeps them."""
        entries = {} if self.restored is None else self.restored.entries
        return {name: node for name, node in entries.items() if name not in captured}

    def carried_notices(self, carried: Iterable[str]) -> Iterator[str]:
        """Yield the warning about carried components, once for each of them."""
        fresh = sorted(set(carried) - self._noticed)
        self._noticed.update(fresh)
        if fresh and self.restored is not None:
            yield (
                f"{', '.join(fresh)} of {self.restored.commit.revision}: not registered in "
                f"this run, carried forward unchanged (to restore it: register_state)"
            )
