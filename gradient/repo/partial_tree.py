"""What is kept of a commit's tree where retention has let go of some of its components.

A component's own tree stays, so that what is missing below it is told from damage. Of an optimizer
(a component with ``param_groups`` and ``state``) the state goes and the options stay, for they are
small, and starting afresh needs them; of any other component all below its tree goes.
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
"""The entry of an optimizer's tree that is let go of."""
_OPTIONS: Final = "param_groups"


def remaining(
    store: TreeReader, root: Oid, dropped: Dropped, parts: set[Oid]
) -> Iterator[tuple[Kind, Oid]]:
    """Yield what stays under a root tree; the trees of which only a part stays go into `parts`.

    Raises an IntegrityError for a tree that is missing or damaged.
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
    """Tell whether a component's tree is an optimizer's: of which the state alone goes."""
    return isinstance(tree, Tree) and {STATE, _OPTIONS} <= tree.entries.keys()


def _options(tree: Tree | ValueTree) -> ValueTree:
    """Return what stays of an optimizer's tree, with its shared memory where it lies in that."""
    rest: Json = [node for key, node in _entries(tree) if key != STATE]
    shared = b'"storage":' in canonical.dumps(rest)
    return ValueTree(rest, tree.storages if shared else ())


def _entries(tree: Tree | ValueTree) -> list[tuple[str, Json]]:
    return list(tree.entries.items()) if isinstance(tree, Tree) else []
