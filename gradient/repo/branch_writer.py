"""The protocol of racing writers: a truth table of tips, positions and outcomes.

Goals: no writer displaces the commits of another, every acknowledged commit stays reachable, and
the history of a branch is linear with steps that never go down. This holds whatever other processes
do, and wherever this one is killed.

Rules: a writer knows the tip that it *saw* when it attached or resumed, and its *position*, the
commit X that its next commit follows. A tip moves by compare-and-swap alone. The present tip
decides:

    none                           the branch starts
    = X                            the branch advances
    the one seen, another than X   it is set aside as B.old1, and B continues from X
    moved since it was seen        this writer diverts to B.run2 and stays there

Garbage collection may remove the dependencies of a commit while it is written, unless a lease
protects them. So each attempt takes or renews a lease *before* it reads a tip, and appends only to
the log that it read before that.

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
from gradient.store.ref_record import RefRecord

_LOG = logging.getLogger("gradient")
_ATTEMPTS: Final = 5

Build: TypeAlias = Callable[[str, Oid | None], Oid]
"""Stores the commit for a branch and a parent durably, and returns its id.

It is called again with another branch after a lost race, and again if packs that it relied on were
collected. Each call must look up everything again."""


class PublishOutcome(Enum):
    """The row of the table that applied."""

    STARTED = "started"
    """The branch had no commit."""
    ADVANCED = "advanced"
    """The branch advanced from its tip."""
    SET_ASIDE = "set aside"
    """The old tip has another name now."""
    DIVERTED = "diverted"
    """This writer continues on another branch."""


@dataclass(frozen=True, slots=True)
class Published:
    """An acknowledged commit: durable, and reachable from its branch."""

    commit: Oid
    """Its id."""
    branch: str
    """The branch it ended on."""
    outcome: PublishOutcome
    """The fate of the requested branch."""
    other: str | None = None
    """Set aside: the old tip's new name. Diverted: the branch that the other writer keeps."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user; none if the branch started or advanced."""
        if self.outcome is PublishOutcome.SET_ASIDE:
            return (
                f"the former tip of {self.branch!r} was set aside as {self.other!r}: nothing is "
                f"lost, and {self.branch!r} continues from the position of this run",
            )
        if self.outcome is PublishOutcome.DIVERTED:
            return (
                f"another writer moved {self.other!r}; this run continues as the new branch "
                f"{self.branch!r}",
            )
        return ()


class _FencedError(Exception):
    """The lease expired during an attempt, which must be repeated under a new one."""


class _RaceLostError(Exception):
    """Another writer moved the branch first."""


class BranchWriter:
    """A writer of commits to one branch. Not thread-safe."""

    def __init__(self, repo: Repository, branch: str, *, new: bool = False) -> None:
        self.repo = repo
        self.branch = branch
        """The branch of the next commit."""
        self.position: Oid | None = None
        """The commit that the next one follows; None for a fresh run."""
        self.seen: RefRecord | None = None
        """The branch's tip at the last attach, resume or commit."""
        self._new = new
        self._built: set[Oid] = set()

    @classmethod
    def open(cls, repo: Repository, branch: str) -> BranchWriter:
        """Open a branch, which need not exist, as a fresh run; raises InvalidNameError."""
        branch_names.check_branch_name(branch, repo.branches())
        writer = cls(repo, branch)
        writer.seen = writer.tip()
        return writer

    @classmethod
    def create(cls, repo: Repository, branch: str) -> BranchWriter:
        """Open a branch that must not exist when its first commit is published.

        Raises BranchExistsError, here or then, and InvalidNameError.
        """
        existing = repo.branches()
        if branch in existing:
            raise BranchExistsError(branch)
        branch_names.check_branch_name(branch, existing)
        return cls(repo, branch, new=True)

    def moved_to(self, commit: Oid | None) -> BranchWriter:
        """Move the position to a commit, as after a resume; returns itself.

        The tip that counts as seen stays the one from `open`. A caller that opens the writer
        *before* it resolves the position cannot mistake another writer's commit for a rewind.
        """
        self.position = commit
        return self

    @property
    def has_moved(self) -> bool:
        """True if this writer stored a commit for the branch that is not yet acknowledged."""
        return bool(self._built)

    def tip(self) -> RefRecord | None:
        """Return the branch's present tip."""
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

        `others` are further commits that it depends on. Raises StepError for a step below that of
        the position, MissingObjectError if one of the others was collected, and BranchExistsError
        if the writer was made by `create` and the branch exists. Then nothing has changed.
        """
        with self.repo.leases.acquire() as lease:
            for _ in range(_ATTEMPTS):
                try:
                    return self._publish(lease, step, build, reason, others)
                except _FencedError:
                    _LOG.debug("the lease of %s was treated as abandoned: retrying", self.branch)
        raise RefConflictError(f"heads/{self.branch}")

    def _publish(
        self, lease: Lease, step: int, build: Build, reason: str, others: Sequence[Oid]
    ) -> Published:
        last = self._cover(lease, self.branch)
        tip = self.tip()
        self._adopt(tip)
        self._check_dependencies(tip, others)
        check_order(step, after=self.last_step())
        if self._new and tip is not None:
            raise BranchExistsError(self.branch)
        # If the tip's commit is lost, its substitute is the position, or is set aside: a commit
        # that does not exist must not get another name.
        tip_commit = None if tip is None else self.repo.tip(self.branch)
        seen = tip is not None and _same(tip, self.seen)
        try:
            if tip is None:
                return self._append(build, tip, last, reason, PublishOutcome.STARTED)
            if tip.commit == self.position or (seen and tip_commit == self.position):
                return self._append(build, tip, last, reason, PublishOutcome.ADVANCED)
            if seen and tip_commit is not None:
                aside = self._set_aside(lease, tip, tip_commit, reason)
                return self._append(build, tip, last, reason, PublishOutcome.SET_ASIDE, aside)
        except _RaceLostError:
            if self._new:
                raise BranchExistsError(self.branch) from None
        return self._divert(lease, build, reason)

    def _cover(self, lease: Lease, branch: str) -> int:
        """Add a branch to the lease; return the last number in the branch's log before that."""
        last = self.repo.refs.last(branch)
        lease.cover(f"heads/{branch}")
        return last

    def _check_dependencies(self, tip: RefRecord | None, others: Sequence[Oid]) -> None:
        """Check that the dependencies of the next commit cannot be collected.

        If the position was collected (its branch deleted, the grace period over), the next commit
        becomes a root.
        """
        position = self.position
        if others or (position is not None and (tip is None or tip.commit != position)):
            intact = IntactCommits(self.repo)
            for oid in others:
                if not intact.holds(oid):
                    raise MissingObjectError(str(oid))
            if position is not None and not intact.may_follow(position):
                _LOG.warning(
                    "commit %s, the position of this run, was collected, because no branch "
                    "reached it. The next commit has no parent",
                    position.short,
                )
                self.position = None

    def last_step(self) -> int:
        """Return the step of the position; 0 for a fresh run."""
        return 0 if self.position is None else self.repo.read_commit(self.position).step

    def _adopt(self, tip: RefRecord | None) -> None:
        """Move the position to the tip if this writer made it and an I/O error hid that."""
        if tip is not None and tip.commit in self._built:
            self._move_to(tip)

    def _append(
        self,
        build: Build,
        tip: RefRecord | None,
        last: int,
        reason: str,
        outcome: PublishOutcome,
        other: str | None = None,
    ) -> Published:
        """Move the branch if its tip is still the one given; raise _RaceLostError otherwise."""
        commit = self._build(build)
        self._built.add(commit)
        try:
            record = self.repo.refs.append(self.branch, commit, after=tip, reason=reason, last=last)
        except RefConflictError:
            self._built.discard(commit)
            if _same(self.tip(), tip):
                raise _FencedError from None
            raise _RaceLostError from None
        self._move_to(record)
        return Published(commit, self.branch, outcome, other)

    def _build(self, build: Build) -> Oid:
        for _ in range(_ATTEMPTS - 1):
            try:
                return build(self.branch, self.position)
            except StoreChangedError as error:
                _LOG.debug("writing again: %s", error)
        # Garbage collection is faster than this writer. A commit that shares nothing with existing
        # packs cannot be disturbed.
        with self.repo.store.self_contained():
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
            # Another writer, or this one before a crash, gave this tip a name already. The name
            # stays, because a third writer may rely on it.
            if existing is not None and existing.commit == commit:
                return name
        raise AssertionError  # pragma: no cover - the names never end

    def _divert(self, lease: Lease, build: Build, reason: str) -> Published:
        requested = self.branch
        for name in self._usable(branch_names.diverted(requested)):
            last = self._cover(lease, name)
            existing = self.repo.refs.read(name)
            if existing is not None:
                if existing.commit not in self._built:
                    continue
                self._adopt(existing)
            self.branch = name
            try:
                return self._append(
                    build, existing, last, reason, PublishOutcome.DIVERTED, requested
                )
            except _RaceLostError:
                continue
            except BaseException:
                self.branch = requested
                raise
        raise AssertionError  # pragma: no cover - the names never end

    def _usable(self, candidates: Iterator[str]) -> Iterator[str]:
        """Leave out names that differ from an existing branch only in case."""
        existing = self.repo.branches()
        return (name for name in candidates if branch_names.is_branch_name(name, existing))

    def _move_to(self, record: RefRecord) -> None:
        self.seen = record
        self.position = record.commit
        self._new = False
        self._built.clear()


def check_order(step: int, *, after: int) -> None:
    """Raise StepError for a step below the branch's last one."""
    if step < after:
        raise StepError(
            f"step {step} is below {after}, the last one of this branch; to go back, resume or "
            f"fork an earlier commit first"
        )


def _same(tip: RefRecord | None, seen: RefRecord | None) -> bool:
    # Only the commit counts: a fence adds a record that repeats it, and moves nothing.
    if tip is None or seen is None:
        return tip is seen
    return tip.commit == seen.commit
