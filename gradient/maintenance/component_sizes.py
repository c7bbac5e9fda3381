"""The part of the store that each component of the state takes, for repos of any size.

Reading the trees of ten thousand commits takes seconds. A large history is therefore sampled: a few
evenly spaced commits stand for all. Objects that several of them share are counted once, and the
other objects are extrapolated. In a small history all commits are read, and the figures are exact.

A very large state is sampled as well. Its chunks are chosen by their ids, so that a chunk that
several commits share is counted in all of them or in none.

Only trees and indexes are read, but no chunks. A missing tree (dropped by retention) and a damaged
tree count as empty: finding damage is the task of fsck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gradient.checkpoint.references import references, references_in
from gradient.codec.chunks import CHUNK_BYTES
from gradient.errors import IntegrityError
from gradient.maintenance.logical_size import OTHER, LogicalSize, component_of
from gradient.objects import tree as trees
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.store.object_store import ObjectStore

MOST_COMMITS: Final = 12
"""The maximum number of sampled commits."""
MOST_OBJECTS: Final = 20_000
"""The number of objects after which no more than two commits are sampled; two show what is shared.
"""
MOST_CHUNKS: Final = 2_000
"""The approximate number of chunks counted per state."""
_STRIDE: Final = (5**0.5 - 1) / 2
"""The stride, as a part of the history; irrational, to avoid rhythms such as an anchor in every 50.
"""


@dataclass(frozen=True, slots=True)
class ComponentSize:
    """The size of one component."""

    component: str
    """``model``, ``optimizer`` or ``other``."""
    represented_bytes: int
    """The estimated bytes of the component in separate files for all commits."""
    stored_bytes: int
    """The stored bytes. ``other`` includes commits, indexes and unreachable objects."""

    @property
    def saved_bytes(self) -> int:
        """The bytes saved; negative if the store's own records take more."""
        return self.represented_bytes - self.stored_bytes


def shares(
    repo: Repository, history: History, weight: LogicalSize
) -> tuple[list[ComponentSize], int]:
    """Return the share of each component, and on how many commits the stored bytes were measured.

    The shares add up to what `weight` says of the whole repo.
    """
    chunks = max(weight.state_bytes, default=0) // CHUNK_BYTES
    count = _Count(repo.store, min(1.0, MOST_CHUNKS / max(1, chunks)))
    looked = 0
    for oid in _spread(history):
        if looked == MOST_COMMITS or (looked >= 2 and count.met >= MOST_OBJECTS):
            break
        count.add(repo, oid)
        looked += 1
    stored = count.total()
    if looked < weight.commits:
        rest = max(0, repo.store.frame_bytes() - sum(stored.values()))
        fresh = count.fresh()
        for name, size in fresh.items():
            stored[name] += rest * size // max(1, sum(fresh.values()))
    over = sum(stored.values())
    if over > weight.stored_bytes:  # an estimate, and too high
        for name in stored:
            stored[name] = stored[name] * weight.stored_bytes // over
    stored[OTHER] += weight.stored_bytes - sum(stored.values())
    found = [
        ComponentSize(name, represented, stored[name])
        for name, represented in weight.represented_by_component.items()
    ]
    return found, looked


def _spread(history: History) -> Iterator[Oid]:
    """Yield commits: all of them where they are few, else the tips and some from all over."""
    commits = list(history.entries)
    if len(commits) <= MOST_COMMITS:
        yield from commits
        return
    tips = list(dict.fromkeys(history.tips.values()))[: MOST_COMMITS // 2]
    yield from tips
    seen = set(tips)
    for number in range(1, len(commits)):
        oid = commits[int(number * _STRIDE % 1 * len(commits))]
        if oid not in seen:
            seen.add(oid)
            yield oid


class _Count:
    """The dependencies of some commits, each with the component in which it was met first."""

    def __init__(self, store: ObjectStore, part: float) -> None:
        self._store = store
        self._part = part
        self._end = int(part * 2**32)
        self._below: dict[Oid, list[Oid]] = {}
        self._shared: set[Oid] = set()
        self.component: dict[Oid, str] = {}
        self.met = 0
        """The number of objects met, counted or not."""

    def add(self, repo: Repository, oid: Oid) -> None:
        """Take in a commit."""
        met: set[Oid] = set()
        commit = repo.read_commit(oid)
        facts = (commit.environment, commit.hparams, commit.fork)
        self._found(oid, OTHER)
        self._walk(((Kind.TREE, each) for each in facts if each is not None), OTHER, met)
        try:
            root = trees.parse(self._store.read(commit.tree, Kind.TREE))
        except IntegrityError:
            return
        self._found(commit.tree, OTHER)
        for name, entry in root.entries.items() if isinstance(root, Tree) else ():
            self._walk(references(ValueTree(entry)), component_of(name), met)

    def _walk(self, objects: Iterable[tuple[Kind, Oid]], component: str, met: set[Oid]) -> None:
        """Count what is new, and mark what earlier commits have; a known tree is not opened."""
        pending = list(objects)
        while pending:
            kind, oid = pending.pop()
            if oid in met or (kind is Kind.BLOB and int.from_bytes(oid[:4]) >= self._end):
                continue
            if oid in self.component:
                self._shared.add(oid)
                continue
            met.add(oid)
            if kind is Kind.BLOB:
                self.component[oid] = component
                continue
            self._found(oid, component)
            try:
                children = list(references_in(kind, self._store.read(oid, kind)))
            except IntegrityError:
                continue
            self._below[oid] = [child for _, child in children]
            self.met += len(children)
            pending.extend(children)

    def _found(self, oid: Oid, component: str) -> None:
        """Count an object that is no blob: each of these stands for itself alone."""
        self.component[oid] = component
        self._below[oid] = []

    def total(self) -> Counter[str]:
        """Return the bytes of all frames, by component."""
        return self._sum(self.component)

    def fresh(self) -> Counter[str]:
        """Return the bytes of the frames that one of the commits alone has, by component."""
        shared: set[Oid] = set()
        pending = list(self._shared)
        while pending:
            oid = pending.pop()
            if oid not in shared:
                shared.add(oid)
                pending.extend(self._below.get(oid, ()))
        return self._sum(self.component.keys() - shared)

    def _sum(self, oids: Iterable[Oid]) -> Counter[str]:
        found: Counter[str] = Counter()
        for oid in oids:
            part = 1 if oid in self._below else self._part
            found[self.component[oid]] += round(self._store.stored_bytes(oid) / part)
        return found
