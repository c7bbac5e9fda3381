"""The logical size of a repo: the bytes that its commits represent, and the bytes stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.objects.tree_reader import TreeReader
from gradient.repo.history import History
from gradient.repo.repository import Repository

OTHER: Final = "other"
COMPONENTS: Final = ("model", "optimizer", OTHER)
"""The components that are counted separately; the rest of a state is small."""


@dataclass(frozen=True, slots=True)
class LogicalSize:
    """The bytes and counts of one repo."""

    commits: int
    """The number of commits reachable from branches."""
    whole: int
    """The number of them whose state is complete."""
    anchors: int
    """The number of them that are anchors."""
    packs: int
    """The number of packs."""
    stored_bytes: int
    """The bytes of all packs."""
    represented_bytes: int
    """An estimate of the commits' size as separate files: for each branch, the number of its
    commits times the tensor bytes at its tip, without dropped components."""
    represented_by_component: Mapping[str, int] = field(default_factory=dict)
    """The same for model, optimizer and everything else."""
    state_bytes: tuple[int, ...] = ()
    """The tensor bytes of the state at each branch's tip."""

    @property
    def deltas(self) -> int:
        """The number of deltas."""
        return self.commits - self.anchors

    @property
    def mean_bytes(self) -> int | None:
        """The estimated size of one more commit; None if unknown."""
        if not self.whole or not self.stored_bytes:
            return None
        return max(1, self.stored_bytes // self.whole)

    def commits_within(self, free_bytes: int) -> int | None:
        """Return the estimated number of commits that fit into a space; None if unknown."""
        mean = self.mean_bytes
        return None if mean is None else int(free_bytes // mean)


def weigh(repo: Repository, history: History) -> LogicalSize:
    """Measure a repo. Reads the pack indexes and the trees of the branches' tips."""
    packs, stored = repo.store.pack_totals()
    known: dict[Oid, int] = {}
    summaries = history.summaries()
    represented = dict.fromkeys(COMPONENTS, 0)
    states: list[int] = []
    kept = kept_components(history)
    for summary in summaries:
        if summary.commits:
            tree = repo.read_commit(summary.tip).tree
            found = component_bytes(repo.store, tree, known)
            states.append(sum(found.values()))
            for name, size in found.items():
                represented[name] += kept[summary.branch, name] * size
    return LogicalSize(
        commits=sum(summary.commits for summary in summaries),
        whole=sum(oid not in history.dropped for oid in history.entries),
        anchors=sum(summary.anchors for summary in summaries),
        packs=packs,
        stored_bytes=stored,
        represented_bytes=sum(represented.values()),
        represented_by_component=represented,
        state_bytes=tuple(states),
    )


def kept_components(history: History) -> Counter[tuple[str, str]]:
    """Return, for each branch, the number of commits that hold each of `COMPONENTS`."""
    commits = Counter(entry.branch for entry in history.entries.values())
    found = Counter({(at, name): count for at, count in commits.items() for name in COMPONENTS})
    for oid, dropped in history.dropped.items():
        if oid in history.entries:
            branch = history.entries[oid].branch
            for name in COMPONENTS:
                found[branch, name] -= dropped.covers(name)
    return found


def component_of(name: str) -> str:
    """Return the member of `COMPONENTS` that an entry of a root tree counts as."""
    return name if name in COMPONENTS else OTHER


def component_bytes(store: TreeReader, root: Oid, known: dict[Oid, int]) -> Counter[str]:
    """Return the bytes of all tensors and data under a root tree, by component."""
    tree = trees.parse(store.read(root, Kind.TREE))
    found: Counter[str] = Counter()
    for name, entry in tree.entries.items() if isinstance(tree, Tree) else ():
        found[component_of(name)] += _count(store, entry, known)
    return found


def state_bytes(store: TreeReader, root: Oid, known: dict[Oid, int] | None = None) -> int:
    """Return the bytes of all tensors and data under a tree; `known` caches counted subtrees."""
    known = {} if known is None else known
    if root not in known:
        tree = trees.parse(store.read(root, Kind.TREE))
        nodes = list(tree.entries.values()) if isinstance(tree, Tree) else [tree.value]
        known[root] = _count(store, [*nodes, *tree.storages], known)
    return known[root]


def node_bytes(store: TreeReader, node: Json) -> int:
    """Return the bytes of all tensors and data in one entry of a tree."""
    return _count(store, node, {})


def _count(store: TreeReader, node: Json, known: dict[Oid, int]) -> int:
    if type(node) is list:
        return sum(_count(store, child, known) for child in node)
    if type(node) is not dict:
        return 0
    subtree = node.get("tree")
    if len(node) == 1 and type(subtree) is str:
        return state_bytes(store, Oid.parse(subtree), known)
    size = node.get("nbytes")
    if type(size) is int:
        return size
    inline = node.get("data")
    if type(inline) is str:
        return len(inline) // 2
    return sum(_count(store, child, known) for child in node.values())
