"""Where the next commit goes: the truth table of tips, positions and writers.

Goals: nobody's line is ever displaced, every acknowledged commit stays reachable, each line is
linear and its steps never go down; whatever other processes do, and wherever this one is killed.

Rules: a writer knows the tip it *saw* when it attached or resumed, and the commit X it stands *at*.
A tip moves by compare-and-swap alone. With the tip that is there now:

    none                        the branch starts
    = X                         the branch moves on
    the one seen, another than X   it is set aside as B.old1, and B continues from X
    moved since it was seen     this writer diverts to B.run2 and stays there

IMPORTANT: the old tip gets its new name *before* the branch moves. A crash in between leaves two
names for one commit; the other order could leave none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from gradient.errors import BranchExistsError, RefConflictError, StepError
from gradient.objects.oid import Oid
from gradient.repo import names
from gradient.repo.repository import Repository
from gradient.store.refs import RefRecord

Build: TypeAlias = Callable[[str, Oid | None], Oid]
"""Stores the commit for a branch and a parent durably, and returns its id. It is called again with
another branch when a race was lost; only the commit object differs then."""


class Outcome(Enum):
    """Which row of the table it was."""

    STARTED = "started"
    """The branch had no commit."""
    ADVANCED = "advanced"
    """The branch moved on from its tip."""
    SET_ASIDE = "set aside"
    """The old tip has another name now."""
    DIVERTED = "diverted"
    """This writer is on another branch now."""


@dataclass(frozen=True, slots=True)
class Published:
    """A commit that is acknowledged: durable, and reachable from its branch."""

    commit: Oid
    """Its id."""
    branch: str
    """The branch it ended on."""
    record: RefRecord
    """The record that made it the tip."""
    outcome: Outcome
    """What happened to the branch that was asked for."""
    other: str | None = None
    """Set aside: the old tip's new name. Diverted: the branch that was left to its writer."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must be told: nothing for the two rows that surprise nobody."""
        if self.outcome is Outcome.SET_ASIDE:
            return (
                f"the former tip of {self.branch!r} was set aside as {self.other!r}: nothing is "
                f"lost, and {self.branch!r} continues from where this run stands",
            )
        if self.outcome is Outcome.DIVERTED:
            return (
                f"another writer moved {self.other!r} meanwhile; this run goes on as the new "
                f"branch {self.branch!r}",
            )
        return ()


class Line:
    """One writer's place on a branch. Not shared by threads."""

    def __init__(self, repo: Repository, branch: str, *, new: bool = False) -> None:
        self.repo = repo
        self.branch = branch
        """The branch that the next commit goes to."""
        self.position: Oid | None = None
        """The commit it will follow; None for a fresh run."""
        self.seen: RefRecord | None = None
        """The branch's tip at the last attach, resume or commit."""
        self._new = new
        self._built: set[Oid] = set()

    @classmethod
    def open(cls, repo: Repository, branch: str) -> Line:
        """Stand on a branch, which need not exist, as a fresh run; raises InvalidNameError."""
        names.check_branch_name(branch, repo.branches())
        line = cls(repo, branch)
        line.seen = line.tip()
        return line

    @classmethod
    def create(cls, repo: Repository, branch: str) -> Line:
        """Stand on a branch that must not exist when its first commit is published.

        Raises BranchExistsError, here or then, and InvalidNameError.
        """
        existing = repo.branches()
        if branch in existing:
            raise BranchExistsError(branch)
        names.check_branch_name(branch, existing)
        return cls(repo, branch, new=True)

    def moved_to(self, commit: Oid | None) -> Line:
        """Stand at a commit, as after a resume; returns itself.

        What counts as seen stays the tip from `open`: who opens a line *before* resolving where to
        stand takes no other writer's commit for a rewind.
        """
        self.position = commit
        return self

    @property
    def has_moved(self) -> bool:
        """Whether this writer has made a commit here."""
        return bool(self._built)

    def tip(self) -> RefRecord | None:
        """Return the branch's tip as it is now."""
        return self.repo.refs.read(self.branch)

    def publish(self, step: int, build: Build, *, reason: str = "commit") -> Published:
        """Make the next commit and move a branch to it, by the table above.

        Raises StepError for a step below the line's last, and, for a line made by `create`,
        BranchExistsError if the branch exists by now. Nothing has changed then.
        """
        tip = self._own_tip()
        self._check_step(step)
        if self._new and tip is not None:
            raise BranchExistsError(self.branch)
        # Where the tip's commit is lost, another one stands in for it: then it is that which this
        # writer stands at, or sets aside. A commit that is not there gets no further name.
        standing = None if tip is None else self.repo.tip(self.branch)
        seen = tip is not None and _same(tip, self.seen)
        if tip is None or tip.commit == self.position or (seen and standing == self.position):
            outcome = Outcome.STARTED if tip is None else Outcome.ADVANCED
            done = self._append(build, tip, reason, outcome)
        elif seen and standing is not None:
            aside = self._set_aside(standing, reason)
            done = self._append(build, tip, reason, Outcome.SET_ASIDE, aside)
        else:
            done = None
        if done is None and self._new:
            raise BranchExistsError(self.branch)
        return done or self._divert(build, reason)

    def _check_step(self, step: int) -> None:
        check_order(step, after=self.last_step())

    def last_step(self) -> int:
        """Return the step of the commit that this writer stands at; 0 for a fresh run."""
        return 0 if self.position is None else self.repo.read_commit(self.position).step

    def _own_tip(self) -> RefRecord | None:
        tip = self.tip()
        if tip is not None and tip.commit in self._built:
            # Our own record, whose acknowledgement an I/O error swallowed: it is not another
            # writer's, and the commit is there.
            self._stand(tip)
        return tip

    def _append(
        self,
        build: Build,
        tip: RefRecord | None,
        reason: str,
        outcome: Outcome,
        other: str | None = None,
    ) -> Published | None:
        """Move the branch if its tip is still the one given; None where a race was lost."""
        commit = build(self.branch, self.position)
        self._built.add(commit)
        try:
            record = self.repo.refs.append(self.branch, commit, after=tip, reason=reason)
        except RefConflictError:
            self._built.discard(commit)
            return None
        self._stand(record)
        return Published(commit, self.branch, record, outcome, other)

    def _set_aside(self, commit: Oid, reason: str) -> str:
        refs = self.repo.refs
        for name in self._usable(names.set_aside(self.branch)):
            existing = refs.read(name)
            if existing is None:
                try:
                    refs.append(name, commit, after=None, reason=f"set aside: {reason}")
                except RefConflictError:
                    existing = refs.read(name)
                else:
                    return name
            # Another writer, or we before a crash, gave this very tip a name already. It is never
            # taken back: a third writer may rely on it by now.
            if existing is not None and existing.commit == commit:
                return name
        raise AssertionError  # pragma: no cover - the names never end

    def _divert(self, build: Build, reason: str) -> Published:
        left = self.branch
        for name in self._usable(names.diverted(left)):
            existing = self.repo.refs.read(name)
            if existing is not None:
                if existing.commit not in self._built:
                    continue
                self._stand(existing)  # ours, unacknowledged, as in `_own_tip`
            self.branch = name
            try:
                done = self._append(build, existing, reason, Outcome.DIVERTED, left)
            except BaseException:
                self.branch = left
                raise
            if done is not None:
                return done
        raise AssertionError  # pragma: no cover - the names never end

    def _usable(self, candidates: Iterator[str]) -> Iterator[str]:
        """Leave out the names that collide with a branch that differs in case alone."""
        existing = self.repo.branches()
        return (name for name in candidates if names.is_branch_name(name, existing))

    def _stand(self, record: RefRecord) -> None:
        self.seen = record
        self.position = record.commit
        self._new = False
        self._built.clear()


def check_order(step: int, *, after: int) -> None:
    """Refuse a step that is below a line's last one; raises StepError."""
    if step < after:
        raise StepError(
            f"step {step} is below {after}, the last one of this line; to go back, resume or "
            f"fork an earlier commit first"
        )


def _same(tip: RefRecord, seen: RefRecord | None) -> bool:
    # The commit counts, not the record: a fence repeats it, and moves nothing.
    return seen is not None and tip.commit == seen.commit
