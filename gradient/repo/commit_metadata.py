"""The hyperparameters, environment and fork of a commit as plain data, read without torch."""

from __future__ import annotations

from typing import Any

from gradient.errors import MalformedObjectError
from gradient.objects import canonical
from gradient.objects import tree as trees
from gradient.objects.canonical import MAX_DEPTH, Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.objects.tree_reader import TreeReader

_MAPPINGS = ("dict", "OrderedDict")


def read_facts(store: TreeReader, oid: Oid | None) -> dict[str, Any] | None:
    """Return the hyperparameters, environment or fork of a commit; None for `oid` None.

    Values without a form in JSON stay as the tree has them.
    """
    if oid is None:
        return None
    value = _tree(store, oid, 0)
    return value if isinstance(value, dict) else {"value": value}


def component_names(store: TreeReader, root: Oid) -> list[str]:
    """Return the names of the components in a root tree."""
    tree = trees.parse(store.read(root, Kind.TREE))
    return list(tree.entries) if isinstance(tree, Tree) else []


def _tree(store: TreeReader, oid: Oid, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise MalformedObjectError(f"trees nested deeper than {MAX_DEPTH} levels")
    tree = trees.parse(store.read(oid, Kind.TREE))
    if isinstance(tree, Tree):
        return {name: _value(store, node, depth) for name, node in tree.entries.items()}
    return _value(store, tree.value, depth)


def _value(store: TreeReader, node: Json, depth: int) -> Any:
    if type(node) is list:
        return [_value(store, item, depth) for item in node]
    if type(node) is not dict or len(node) != 1:
        return node
    ((tag, payload),) = node.items()
    if tag in ("int", "float"):
        return canonical.unpack_number(node)
    if tag == "tree":
        return _tree(store, Oid.parse(payload), depth + 1)
    if tag == "tuple":
        return _value(store, payload, depth)
    if tag in _MAPPINGS and type(payload) is list:
        pairs = [pair for pair in payload if type(pair) is list and len(pair) == 2]
        return {_key(key): _value(store, item, depth) for key, item in pairs}
    return node


def _key(node: Json) -> str:
    return node if type(node) is str else f"{node!r:.40}"
