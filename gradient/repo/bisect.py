"""A binary search for the first bad commit, with its state in a small file.

The search covers the first parents from a bad commit back to a good one. The first bad commit comes
after the newest commit known to be good, up to the oldest known to be bad; each verdict moves one
of the two. The file is replaced as a whole and never synced: losing it costs a `start`, not a
commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, TypeAlias

from gradient.errors import ConflictError, MalformedObjectError, NotFoundError
from gradient.objects import timestamp
from gradient.objects.oid import Oid
from gradient.repo import json_files, paths
from gradient.repo.repository import Repository
from gradient.storage import fs

NAME: Final = "bisect.json"
_MAX_BYTES = 1 << 24

Verdict: TypeAlias = Literal["good", "bad", "skip"]
VERDICTS: Final[tuple[Verdict, ...]] = ("good", "bad", "skip")


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict."""

    verdict: str
    """``good``, ``bad`` or ``skip``."""
    commit: str
    """The commit's id."""
    revision: str
    """Its revision."""
    time: str
    """The time of the verdict, in UTC."""


@dataclass(frozen=True, slots=True)
class BisectState:
    """The state of a search."""

    bad: str
    """The oldest commit known to be bad."""
    good: str
    """The newest commit known to be good."""
    log: tuple[Judged, ...]
    """All verdicts, the oldest first; the first two are those of the start."""

    @property
    def skipped(self) -> frozenset[str]:
        """The commits without a verdict of good or bad."""
        return frozenset(each.commit for each in self.log if each.verdict == "skip")


@dataclass(frozen=True, slots=True)
class BisectResult:
    """The result of a search."""

    first_bad: Oid
    """The first bad commit; the newest of `candidates` if there are several."""
    before: Oid
    """The commit before it, or the newest known to be good."""
    candidates: tuple[Oid, ...]
    """The possible first bad commits: several if some were skipped."""


class Bisection:
    """A search in progress. Its history is walked once."""

    def __init__(self, repo: Repository, state: BisectState) -> None:
        self._repo = repo
        self.state = state
        # The oldest first: the one known to be good, the undecided ones, the one known to be bad.
        self._line = line_between(repo, Oid.parse(state.good), Oid.parse(state.bad))
        self._places = {oid: place for place, oid in enumerate(self._line)}
        self._low, self._high = 0, len(self._line) - 1
        dropped = repo.dropped()
        self._forgotten = frozenset(
            str(oid) for oid in self._line if oid in dropped and dropped[oid].components is None
        )

    @classmethod
    def start(cls, repo: Repository, bad: Oid, good: Oid) -> Bisection:
        """Start a search and replace an earlier one; raises ConflictError as `line_between`."""
        log = tuple(_judged(repo, word, oid) for word, oid in (("bad", bad), ("good", good)))
        search = cls(repo, BisectState(str(bad), str(good), log))
        search._save()
        return search

    @classmethod
    def load(cls, repo: Repository) -> Bisection:
        """Continue the search of this repo; raises NotFoundError if there is none."""
        return cls(repo, load_state(repo))

    @property
    def open(self) -> int:
        """The number of commits that may be the first bad one."""
        return self._high - self._low

    @property
    def rounds(self) -> int:
        """The approximate number of verdicts to come."""
        return max(self.open - 1, 0).bit_length()

    def next(self) -> Oid | None:
        """Return the commit to judge next, the one nearest to the middle; None at the end.

        Forgotten commits are left out, because their state is dropped.
        """
        skipped = self.state.skipped | self._forgotten
        middle = (self._low + self._high) // 2
        for distance in range(self.open):
            for place in dict.fromkeys((middle - distance, middle + distance)):
                inside = self._low < place < self._high
                if inside and str(self._line[place]) not in skipped:
                    return self._line[place]
        return None

    def found(self) -> BisectResult | None:
        """Return the result; None while there is a commit left to judge."""
        if self.next() is not None:
            return None
        candidates = tuple(self._line[self._low + 1 : self._high + 1])
        return BisectResult(self._line[self._high], self._line[self._low], candidates)

    def judge(self, verdict: Verdict, oid: Oid) -> None:
        """Apply a verdict and save the search.

        Raises ConflictError for a commit outside the search, or a contradictory verdict.
        """
        place = self._places.get(oid)
        commit = self._repo.read_commit(oid)
        if place is None:
            raise ConflictError(
                f"{commit.revision} ({oid.short}) is not between the good commit and the bad one; "
                f"start again: gradient bisect start BAD GOOD"
            )
        wrong = (verdict == "good" and place >= self._high) or (
            verdict == "bad" and place <= self._low
        )
        if wrong:
            raise ConflictError(
                f"{commit.revision} ({oid.short}) cannot be {verdict}: an earlier verdict says the "
                f"opposite (gradient bisect log); start again: gradient bisect start BAD GOOD"
            )
        if verdict == "good":
            self._low = max(self._low, place)
        elif verdict == "bad":
            self._high = min(self._high, place)
        self.state = replace(
            self.state,
            good=str(self._line[self._low]),
            bad=str(self._line[self._high]),
            log=(*self.state.log, _judged(self._repo, verdict, oid)),
        )
        self._save()

    def _save(self) -> None:
        self._repo.check_writable()
        json_files.write(_path(self._repo), asdict(self.state))


def line_between(repo: Repository, good: Oid, bad: Oid) -> list[Oid]:
    """Return the first parents from `bad` back to `good`, the oldest first, with both.

    Raises ConflictError if `good` is not among them.
    """
    line: list[Oid] = []
    first = repo.link(good).step
    # Strict: the commit after a damaged one would be reported as the first bad one, although the
    # damaged commit may be it.
    for oid, link in repo.walk_links(bad, on_damage="raise"):
        line.append(oid)
        if oid == good and len(line) > 1:
            return line[::-1]
        if link.step < first:
            break  # steps never go down, so no older commit is the good one
    one, other = (repo.read_commit(each).revision for each in (good, bad))
    raise ConflictError(
        f"{one} ({good.short}) is not before {other} ({bad.short}) in its history; the bad commit "
        f"comes first: gradient bisect start BAD GOOD"
    )


def load_state(repo: Repository) -> BisectState:
    """Read the search of this repo; raises NotFoundError if there is none."""
    try:
        body = json_files.read(_path(repo), limit=_MAX_BYTES)
        if body is None:
            raise NotFoundError("no search was started; start one: gradient bisect start BAD GOOD")
        log = tuple(Judged(**each) for each in body["log"])
        return BisectState(str(Oid.parse(body["bad"])), str(Oid.parse(body["good"])), log)
    except (ValueError, TypeError, KeyError, MalformedObjectError):
        raise MalformedObjectError(
            f"{_path(repo)} is damaged; start again: gradient bisect start BAD GOOD"
        ) from None


def reset(repo: Repository) -> bool:
    """End the search of this repo; return whether there was one."""
    repo.check_writable()
    return fs.remove(_path(repo))


def search(bisection: Bisection, judge: Callable[[Oid], Verdict]) -> BisectResult:
    """Judge commits with a function until the search ends; return the result."""
    while (oid := bisection.next()) is not None:
        bisection.judge(judge(oid), oid)
    result = bisection.found()
    assert result is not None
    return result


def _judged(repo: Repository, verdict: str, oid: Oid) -> Judged:
    return Judged(verdict, str(oid), repo.read_commit(oid).revision, timestamp.now())


def _path(repo: Repository) -> str:
    return paths.inside(repo.path, NAME)
