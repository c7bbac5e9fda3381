"""Which commit of a line is the first bad one: a search by halves, kept in a small file.

The line is the first parents from a bad commit back to a good one. Between the newest commit known
to be good and the oldest known to be bad lies the first bad one; each verdict moves one of the two.
The file is replaced as a whole and never synced: losing it costs a `start`, not a commit.
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
    """What it is called."""
    time: str
    """When it was judged; UTC."""


@dataclass(frozen=True, slots=True)
class BisectState:
    """How far the search has come."""

    bad: str
    """The oldest commit known to be bad."""
    good: str
    """The newest commit known to be good."""
    log: tuple[Judged, ...]
    """All verdicts, the oldest first; the first two are those of the start."""

    @property
    def skipped(self) -> frozenset[str]:
        """The commits that could not be judged."""
        return frozenset(each.commit for each in self.log if each.verdict == "skip")


@dataclass(frozen=True, slots=True)
class BisectResult:
    """How the search ended."""

    first_bad: Oid
    """The first bad commit; the newest of `candidates` where there are several."""
    before: Oid
    """The commit before it, or the newest that is known to be good."""
    candidates: tuple[Oid, ...]
    """Each that may be the first bad one: more than one where some were skipped."""


class Bisection:
    """A search that was begun. Its line is walked once."""

    def __init__(self, repo: Repository, state: BisectState) -> None:
        self._repo = repo
        self.state = state
        # The oldest first: the one known to be good, the open ones, the one known to be bad.
        self._line = line_between(repo, Oid.parse(state.good), Oid.parse(state.bad))
        self._places = {oid: place for place, oid in enumerate(self._line)}
        self._low, self._high = 0, len(self._line) - 1
        dropped = repo.dropped()
        self._forgotten = frozenset(
            str(oid) for oid in self._line if oid in dropped and dropped[oid].components is None
        )

    @classmethod
    def start(cls, repo: Repository, bad: Oid, good: Oid) -> Bisection:
        """Begin a search, in place of an earlier one; raises ConflictError without such a line."""
        log = tuple(_judged(repo, word, oid) for word, oid in (("bad", bad), ("good", good)))
        begun = cls(repo, BisectState(str(bad), str(good), log))
        begun._save()
        return begun

    @classmethod
    def load(cls, repo: Repository) -> Bisection:
        """Go on with the search of this repo; raises NotFoundError where there is none."""
        return cls(repo, load_state(repo))

    @property
    def open(self) -> int:
        """How many commits may still be the first bad one."""
        return self._high - self._low

    @property
    def rounds(self) -> int:
        """About how many more commits are to be judged."""
        return max(self.open - 1, 0).bit_length()

    def next(self) -> Oid | None:
        """Return the commit to judge: the middle one, or the nearest to it; None at the end.

        One that was forgotten can not be judged.
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
        """Return the end of the search; None while there is a commit left to judge."""
        if self.next() is not None:
            return None
        candidates = tuple(self._line[self._low + 1 : self._high + 1])
        return BisectResult(self._line[self._high], self._line[self._low], candidates)

    def judge(self, verdict: Verdict, oid: Oid) -> None:
        """Take a verdict in and write it down.

        Raises ConflictError for a commit off the line, or a verdict that contradicts another.
        """
        place = self._places.get(oid)
        commit = self._repo.read_commit(oid)
        if place is None:
            raise ConflictError(
                f"{commit.revision} ({oid.short}) does not lie between the good commit and the bad "
                f"one; begin anew: gradient bisect start BAD GOOD"
            )
        wrong = (verdict == "good" and place >= self._high) or (
            verdict == "bad" and place <= self._low
        )
        if wrong:
            raise ConflictError(
                f"{commit.revision} ({oid.short}) cannot be {verdict}: an earlier verdict says the "
                f"opposite (gradient bisect log); begin anew: gradient bisect start BAD GOOD"
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

    Raises ConflictError where `good` is not among them.
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
            break  # steps never go down, so it does not lie further back
    one, other = (repo.read_commit(each).revision for each in (good, bad))
    raise ConflictError(
        f"{one} ({good.short}) is not before {other} ({bad.short}) on one line; the bad commit "
        f"comes first: gradient bisect start BAD GOOD"
    )


def load_state(repo: Repository) -> BisectState:
    """Read the search of this repo; raises NotFoundError where there is none."""
    try:
        body = json_files.read(_path(repo), limit=_MAX_BYTES)
        if body is None:
            raise NotFoundError("no search was begun; begin one: gradient bisect start BAD GOOD")
        log = tuple(Judged(**each) for each in body["log"])
        return BisectState(str(Oid.parse(body["bad"])), str(Oid.parse(body["good"])), log)
    except (ValueError, TypeError, KeyError, MalformedObjectError):
        raise MalformedObjectError(
            f"{_path(repo)} is damaged; begin anew: gradient bisect start BAD GOOD"
        ) from None


def reset(repo: Repository) -> bool:
    """End the search of this repo; returns whether there was one."""
    repo.check_writable()
    return fs.remove(_path(repo))


def search(bisection: Bisection, judge: Callable[[Oid], Verdict]) -> BisectResult:
    """Ask a function about one commit after the other, to the end."""
    while (oid := bisection.next()) is not None:
        bisection.judge(judge(oid), oid)
    found = bisection.found()
    assert found is not None
    return found


def _judged(repo: Repository, verdict: str, oid: Oid) -> Judged:
    return Judged(verdict, str(oid), repo.read_commit(oid).revision, timestamp.now())


def _path(repo: Repository) -> str:
    return paths.inside(repo.path, NAME)
