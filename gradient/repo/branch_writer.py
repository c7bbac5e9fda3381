"""Where the next commit goes: the truth table of tips, positions and writers.

Goals: nobody's line is ever displaced, every acknowledged commit stays reachable, each line is
linear and its steps never go down; whatever other processes do, and wherever this one is killed.

Rules: a writer knows the tip it *saw* when it attached or resumed, and the commit X it stands *at*.
A tip moves by compare-and-swap alone. With the tip that is there now:

    none                        the branch starts
    = X                         the branch moves on
    the one seen, another than X   it is set aside as B.old1, and B continues from X
    moved since it was seen     this writer diverts to B.run2 and stays there

What a commit relies on may be collected while it is written, unless a lease says so: each attempt
takes or renews one *before* it reads a tip, and appends only to the log that it read before that.

IMPORTANT: the old tip gets its new name *before* the branch moves. A crash in between leaves two
names for one commit; the other order could leave none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from gradient.errors import (
    BranchExistsError,
    MissingObjectError,
    RefConflictError,
    StepError,
    StoreChangedError,
)
from gradient.objects.oid import Oid
from gradient.repo import branch_names
from gradient.repo.reachability import IntactCommits
from gradient.repo.repository import Repository
from gradient.store.leases import Lease
from gradient.store.refs import RefRecord

_LOG = logging.getLogger("gradient")
_ATTEMPTS: Final = 5

Build: TypeAlias = Callable[[str, Oid | None], Oid]
"""Stores the commit for a branch and a parent durably, and returns its id. It is called again with
another branch when a race was lost, or where packs that it relied on were collected meanwhile: each
time it must look up everything anew."""


class PublishOutcome(Enum):
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
    outcome: PublishOutcome
    """What happened to the branch that was asked for."""
    other: str | None = None
    """Set aside: the old tip's new name. Diverted: the branch that was left to its writer."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must be told: nothing for the two rows that surprise nobody."""
        if self.outcome is PublishOutcome.SET_ASIDE:
            return (
                f"the former tip of {self.branch!r} was set aside as {self.other!r}: nothing is "
                f"lost, and {self.branch!r} continues from where this run stands",
            )
        if self.outcome is PublishOutcome.DIVERTED:
            return (
                f"another writer moved {self.other!r} meanwhile; this run goes on as the new "
                f"branch {self.branch!r}",
            )
        return ()


class _FencedError(Exception):
    """The attempt must be repeated under a fresh lease."""


class BranchWriter:
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
    def open(cls, repo: Repository, branch: str) -> BranchWriter:
        """Stand on a branch, which need not exist, as a fresh run; raises InvalidNameError."""
        branch_names.check_branch_name(branch, repo.branches())
        line = cls(repo, branch)
        line.seen = line.tip()
        return line

    @classmethod
    def create(cls, repo: Repository, branch: str) -> BranchWriter:
        """Stand on a branch that must not exist when its first commit is published.

        Raises BranchExistsError, here or then, and InvalidNameError.
        """
        existing = repo.branches()
        if branch in existing:
            raise BranchExistsError(branch)
        branch_names.check_branch_name(branch, existing)
        return cls(repo, branch, new=True)

    def moved_to(self, commit: Oid | None) -> BranchWriter:
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

    def publish(
        self,
        step: int,
        build: Build,
        *,
        reason: str = "commit",
        others: Sequence[Oid] = (),
    ) -> Published:
        """Make the next commit and move a branch to it, by the table above.

        `others` are commits that it stands on beside the one at which this line stands. Raises
        StepError for a step below the line's last, and, for a line made by `create`,
        BranchExistsError if the branch exists by now, and MissingObjectError if one of the others
        was collected. Nothing has changed then.
        """
        with self.repo.leases.take() as lease:
            for _ in range(_ATTEMPTS):
                try:
                    return self._publish(lease, step, build, reason, others)
                except _FencedError:
                    _LOG.debug("the lease of %s was taken for forgotten: once more", self.branch)
        raise RefConflictError(f"heads/{self.branch}")

    def _publish(
        self, lease: Lease, step: int, build: Build, reason: str, others: Sequence[Oid]
    ) -> Published:
        last = self._cover(lease, self.branch)
        tip = self._own_tip()
        self._check_standing(tip, others)
        self._check_step(step)
        if self._new and tip is not None:
            raise BranchExistsError(self.branch)
        # Where the tip's commit is lost, another one stands in for it: then it is that which this
        # writer stands at, or sets aside. A commit that is not there gets no further name.
        standing = None if tip is None else self.repo.tip(self.branch)
        seen = tip is not None and _same(tip, self.seen)
        if tip is None or tip.commit == self.position or (seen and standing == self.position):
            outcome = PublishOutcome.STARTED if tip is None else PublishOutcome.ADVANCED
            done = self._append(build, tip, last, reason, outcome)
        elif seen and standing is not None:
            aside = self._set_aside(lease, tip, standing, reason)
            done = self._append(build, tip, last, reason, PublishOutcome.SET_ASIDE, aside)
        else:
            done = None
        if done is None and self._new:
            raise BranchExistsError(self.branch)
        return done or self._divert(lease, build, reason)

    def _cover(self, lease: Lease, branch: str) -> int:
        """Let the lease name a branch; returns the last number in the branch's log before that."""
        last = self.repo.refs.last(branch)
        lease.cover(f"heads/{branch}")
        return last

    def _check_standing(self, tip: RefRecord | None, others: Sequence[Oid]) -> None:
        """See to it that the next commit stands on nothing that may be collected.

        A line whose commits were removed (its branch deleted, the grace over) begins anew.
        """
        position = self.position
        if others or (position is not None and (tip is None or tip.commit != position)):
            standing = IntactCommits(self.repo)
            for oid in others:
                if not standing.holds(oid):
                    raise MissingObjectError(str(oid))
            if position is not None and not standing.may_follow(position):
                _LOG.warning(
                    "commit %s, where this run stands, was collected: no branch led to it any "
                    "more. The run goes on with a commit without a parent",
                    position.short,
                )
                self.position = None

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
        last: int,
        reason: str,
        outcome: PublishOutcome,
        other: str | None = None,
    ) -> Published | None:
        """Move the branch if its tip is still the one given; None where a race was lost."""
        commit = self._build(build)
        self._built.add(commit)
        try:
            record = self.repo.refs.append(self.branch, commit, after=tip, reason=reason, last=last)
        except RefConflictError:
            self._built.discard(commit)
            if _same(self.tip(), tip):
                raise _FencedError from None
            return None
        self._stand(record)
        return Published(commit, self.branch, outcome, other)

    def _build(self, build: Build) -> Oid:
        for _ in range(_ATTEMPTS - 1):
            try:
                return build(self.branch, self.position)
            except StoreChangedError as error:
                _LOG.debug("writing once more: %s", error)
        # Others collect faster than this one writes. What relies on nothing can not be disturbed.
        with self.repo.store.alone():
            return build(self.branch, self.position)

    def _set_aside(self, lease: Lease, tip: RefRecord, commit: Oid, reason: str) -> str:
        refs = self.repo.refs
        for name in self._usable(branch_names.set_aside(self.branch)):
            last = self._cover(lease, name)
            existing = refs.read(name)
            if existing is None:
                if self.tip() != tip:
                    raise _FencedError
                why = f"set aside: {reason}"
                try:
                    refs.append(name, commit, after=None, reason=why, last=last)
                except RefConflictError:
                    existing = refs.read(name)
                else:
                    return name
            # Another writer, or we before a crash, gave this very tip a name already. It is never
            # taken back: a third writer may rely on it by now.
            if existing is not None and existing.commit == commit:
                return name
        raise AssertionError  # pragma: no cover - the names never end

    def _divert(self, lease: Lease, build: Build, reason: str) -> Published:
        left = self.branch
        for name in self._usable(branch_names.diverted(left)):
            last = self._cover(lease, name)
            existing = self.repo.refs.read(name)
            if existing is not None:
                if existing.commit not in self._built:
                    continue
                self._stand(existing)  # ours, unacknowledged, as in `_own_tip`
            self.branch = name
            try:
                done = self._append(build, existing, last, reason, PublishOutcome.DIVERTED, left)
            except BaseException:
                self.branch = left
                raise
            if done is not None:
                return done
        raise AssertionError  # pragma: no cover - the names never end

    def _usable(self, candidates: Iterator[str]) -> Iterator[str]:
        """Leave out the names that collide with a branch that differs in case alone."""
        existing = self.repo.branches()
        return (name for name in candidates if branch_names.is_branch_name(name, existing))

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


def _same(tip: RefRecord | None, seen: RefRecord | None) -> bool:
    # The commit counts, not the record: a fence repeats it, and moves nothing.
    if tip is None or seen is None:
        return tip is seen
    return tip.commit == seen.commit
