"""The objects that a tree or a list refers to. Decodes no values and does not import torch."""

from __future__ import annotations

from collections.abc import Iterator

from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree


def references_in(kind: Kind, body: bytes) -> Iterator[tuple[Kind, Oid]]:
    """Yield the direct references in the body of a tree or a list; other kinds have none.

    Raises MalformedObjectError.
    """
    if kind is Kind.TREE:
        yield from references(trees.parse(body))
    elif kind is Kind.LIST:
        yield from ((Kind.BLOB, blob) for blob in parse_list(body))


def references(tree: Tree | ValueTree) -> Iterator[tuple[Kind, Oid]]:
    """Yield the trees, lists and blobs that a tree refers to, once for each reference.

    Raises MalformedObjectError for an invalid id.
    """
    # A user's names occur only as names of entries and as strings in arrays. Below an entry, every
    # key of a JSON object belongs to the format.
    stack: list[Json] = list(tree.storages)
    stack += tree.entries.values() if isinstance(tree, Tree) else [tree.value]
    while stack:
        node = stack.pop()
        if type(node) is list:
            stack.extend(node)
        elif type(node) is dict:
            for key, value in node.items():
                if key == "chunks":
                    yield from ((Kind.BLOB, Oid.parse(text)) for text in _list(value))
                elif key in _SINGLE:
                    yield _SINGLE[key], Oid.parse(value)
                else:
                    stack.append(value)


def parse_list(raw: bytes) -> list[Oid]:
    """Return the blob ids in the body of a list object, in order; raises MalformedObjectError."""
    if not raw:
        raise MalformedObjectError("a list of nothing")
    return [Oid(raw[i : i + 32]) for i in range(0, len(raw), 32)]


_SINGLE = {"tree": Kind.TREE, "list": Kind.LIST}


def _list(node: Json) -> list[Json]:
    if type(node) is not list:
        raise MalformedObjectError(f"not chunks: {node!r:.80}")
    return node
