"""Which part of the store each component of the state takes, for a repo of any size.

Reading the trees of ten thousand commits takes seconds. So where there are more commits than can be
looked at in a moment, some that lie evenly in history stand for all: what several of them share is
counted once, and what the others hold is taken to be spread as what each of these has for itself.
Where there are few commits, all are looked at, and the figures are exact.

Of a very large state some chunks stand for all, chosen by their ids, so that a chunk which several
commits share is looked at in each of them or in none.

Only trees and indexes are read, no chunk is. A tree that is not there (retention let go of it) or
is damaged counts nothing: to find damage is another command's work.
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
"""So many commits are looked at."""
MOST_OBJECTS: Final = 20_000
"""When so many objects were met, no third commit is looked at, or a further one: two at least tell
what is shared."""
MOST_CHUNKS: Final = 2_000
"""About so many chunks of one state are counted."""
_STRIDE: Final = (5**0.5 - 1) / 2
"""Steps of this part of a history meet no rhythm in it, such as an anchor in every fifty."""


@dataclass(frozen=True, slots=True)
class ComponentSize:
    """What one component takes."""

    component: str
    """``model``, ``optimizer`` or ``other``."""
    represented_bytes: int
    """About what it would take in files of their own for all commits."""
    stored_bytes: int
    """What it takes in the store. Of ``other`` also what is nobody's: commits, indexes, and what no
    branch leads to."""

    @property
    def saved_bytes(self) -> int:
        """What the store saves; negative where its own records weigh more than that."""
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
    """Objects that some commits stand on, each with the component that it was met in first."""

    def __init__(self, store: ObjectStore, part: float) -> None:
        self._store = store
        self._part = part
        self._end = int(part * 2**32)
        self._below: dict[Oid, list[Oid]] = {}
        self._shared: set[Oid] = set()
        self.component: dict[Oid, str] = {}
        self.met = 0
        """How many objects were met, those counted and those left out."""

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
