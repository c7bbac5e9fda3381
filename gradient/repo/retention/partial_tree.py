"""The parts of a commit's tree that stay after retention dropped some of its components.

The tree of a dropped component stays, so that the missing objects below it do not look like damage.
An optimizer (a component with ``param_groups`` and ``state``) loses its state and keeps its
options, because they are small and a restart needs them. Any other component loses everything below
its tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gradient.checkpoint.references import references
from gradient.objects import canonical
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.objects.tree_reader import TreeReader
from gradient.store.retention_log import Dropped

STATE: Final = "state"
"""The entry of an optimizer's tree that is dropped."""
_OPTIONS: Final = "param_groups"


def remaining(
    store: TreeReader, root: Oid, dropped: Dropped, parts: set[Oid]
) -> Iterator[tuple[Kind, Oid]]:
    """Yield the objects below a root tree that stay; add trees that stay in part to `parts`.

    Raises IntegrityError for a tree that is missing or damaged.
    """
    if dropped.components is None:
        return
    parts.add(root)
    tree = trees.parse(store.read(root, Kind.TREE))
    for name, entry in _entries(tree):
        if not dropped.covers(name):
            yield from references(ValueTree(entry))
            continue
        for _, oid in references(ValueTree(entry)):
            parts.add(oid)
            below = trees.parse(store.read(oid, Kind.TREE))
            if is_optimizer(below):
                yield from references(_options(below))


def is_optimizer(tree: Tree | ValueTree) -> bool:
    """Return whether a component's tree is that of an optimizer, which loses only its state."""
    return isinstance(tree, Tree) and {STATE, _OPTIONS} <= tree.entries.keys()


def _options(tree: Tree | ValueTree) -> ValueTree:
    """Return the part of an optimizer's tree that stays, with the shared memory that it uses."""
    rest: Json = [node for key, node in _entries(tree) if key != STATE]
    shared = b'"storage":' in canonical.dumps(rest)
    return ValueTree(rest, tree.storages if shared else ())


def _entries(tree: Tree | ValueTree) -> list[tuple[str, Json]]:
    return list(tree.entries.items()) if isinstance(tree, Tree) else []
