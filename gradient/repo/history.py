"""The commits of all branches, each once, with the branch that owns it.

Histories share their beginnings: that of a fork contains that of its source. Each commit has one
owner, so that a listing shows it once and under a revision that resolves to it:

1. the branch that it was made on, if it is still in that branch's history;
2. else the branch that was set aside from it and has the commit;
3. else any branch with the commit in its history (the branch it was made on is deleted).

Each commit is visited once. Histories are cut into segments, and each segment joins a segment of
another history. Membership is decided by following the joins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from gradient.objects.commit import CommitRecord, Link
from gradient.objects.oid import Oid
from gradient.repo import branch_names
from gradient.repo.graph import OnDamage
from gradient.repo.repository import Repository
from gradient.store.retention_log import Dropped


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit in a listing."""

    oid: Oid
    """Its id."""
    link: Link
    """Its place in history."""
    branch: str
    """The branch that owns it now."""
    repo: Repository = field(repr=False, compare=False)
    """The repo it is in."""

    @property
    def commit(self) -> CommitRecord:
        """Its content, read on access."""
        return self.repo.read_commit(self.oid)

    @property
    def step(self) -> int:
        """The training step."""
        return self.link.step

    @property
    def revision(self) -> str:
        """``branch@step``, as it resolves now (to the newest commit of that step)."""
        return f"{self.branch}@{self.link.step}"


@dataclass(slots=True)
class _Segment:
    """The part of a history, newest first, that no earlier history contains."""

    branch: str
    oids: list[Oid] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    joins: tuple[_Segment, int] | None = None
    """The segment with the rest of the history, and the index of its first commit there."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one branch."""

    branch: str
    """Its name."""
    tip: Oid
    """Its tip."""
    step: int
    """That commit's step."""
    commits: int
    """The number of commits that it owns."""
    anchors: int
    """The number of anchors among them."""
    source: Oid | None
    """The commit at which it left another branch; None if it begins with a root."""

    @property
    def deltas(self) -> int:
        """The number of deltas among its commits."""
        return self.commits - self.anchors


class History:
    """The commits of a repo at one point in time."""

    def __init__(self, repo: Repository, *, on_damage: OnDamage = "raise") -> None:
        """Walk the history of each branch; `on_damage` as for `Graph.walk_links`."""
        self._on_damage: OnDamage = on_damage
        self.tips = repo.tips()
        """The branches and their tips."""
        self.dropped: Mapping[Oid, Dropped] = repo.dropped()
        """The states and components that retention dropped, by commit."""
        self._repo = repo
        self._places: dict[Oid, tuple[_Segment, int]] = {}
        self._depths: dict[Oid, int] = {}
        self._segments: dict[str, _Segment] = {}
        self._set_aside: dict[str, list[str]] = {}
        for branch in sorted(self.tips, key=lambda name: (branch_names.is_beside(name), name)):
            self._segments[branch] = self._cut(branch)
        self.entries: dict[Oid, Entry] = {
            oid: self._entry(oid, segment, index) for oid, (segment, index) in self._places.items()
        }
        """Every commit with its owner; branch by branch, the newest first."""

    def has(self, branch: str, oid: Oid) -> bool:
        """Return whether a branch's history contains the commit."""
        segment: _Segment | None = self._segments.get(branch)
        place = self._places.get(oid)
        start = 0
        while segment is not None and place is not None:
            if place[0] is segment:
                return place[1] >= start
            segment, start = segment.joins or (None, 0)
        return False

    def forks(self) -> Iterator[Oid]:
        """Yield the commits at which histories diverge."""
        for segment in self._segments.values():
            if segment.joins is not None and segment.oids:
                joined, index = segment.joins
                yield joined.oids[index]

    def newest(self) -> Iterator[Entry]:
        """Yield the entries that their revision resolves to, oldest first within each branch."""
        newest: dict[tuple[str, int], Entry] = {}
        # All commits of one owner are in one history, in which the deepest is the newest.
        for entry in sorted(self.entries.values(), key=lambda entry: self._depths[entry.oid]):
            newest[entry.branch, entry.step] = entry
        yield from sorted(newest.values(), key=lambda entry: (entry.branch, entry.step))

    def summaries(self) -> list[Summary]:
        """Return a summary of every branch, sorted by name."""
        commits: Counter[str] = Counter()
        anchors: Counter[str] = Counter()
        for entry in self.entries.values():
            commits[entry.branch] += 1
            anchors[entry.branch] += entry.link.anchored
        summaries = []
        for branch, tip in sorted(self.tips.items()):
            source = self._source(branch, tip)
            step = self.entries[tip].step
            count, full = commits[branch], anchors[branch]
            summaries.append(Summary(branch, tip, step, count, full, source))
        return summaries

    def _source(self, branch: str, tip: Oid) -> Oid | None:
        """Return the newest commit in the history that another branch owns."""
        segment, start = self._places[tip]
        while True:
            for oid in islice(segment.oids, start, None):
                if self.entries[oid].branch != branch:
                    return oid
            if segment.joins is None:
                return None
            segment, start = segment.joins

    def _cut(self, branch: str) -> _Segment:
        segment = _Segment(branch)
        for oid, link in self._repo.walk_links(self.tips[branch], on_damage=self._on_damage):
            if not segment.oids:
                self.tips[branch] = oid
            place = self._places.get(oid)
            if place is not None:
                segment.joins = place
                break
            self._places[oid] = (segment, len(segment.oids))
            segment.oids.append(oid)
            segment.links.append(link)
        below = 0 if segment.joins is None else self._depth_at(*segment.joins)
        for depth, oid in enumerate(reversed(segment.oids), below + 1):
            self._depths[oid] = depth
        return segment

    def _depth_at(self, segment: _Segment, index: int) -> int:
        """Return the number of commits from the root up to this one."""
        return self._depths[segment.oids[index]]

    def _entry(self, oid: Oid, segment: _Segment, index: int) -> Entry:
        link = segment.links[index]
        return Entry(oid, link, self._owner(oid, link.branch, segment), self._repo)

    def _owner(self, oid: Oid, made_on: str, segment: _Segment) -> str:
        if segment.branch == made_on or self.has(made_on, oid):
            return made_on
        if made_on not in self._set_aside:
            self._set_aside[made_on] = branch_names.lines_beside(made_on, self.tips)
        owners = (name for name in self._set_aside[made_on] if self.has(name, oid))
        return next(owners, segment.branch)
