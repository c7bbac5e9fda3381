"""The chunks that a tree needs, by path. Reads only the trees and does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from gradient.checkpoint.references import parse_list, references, references_in
from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.objects.tree_reader import TreeReader


@dataclass(frozen=True, slots=True)
class Content:
    """The chunks of one tensor, array or byte string."""

    path: str
    """The component and the names below it, joined by dots; list indices are in brackets."""
    nbytes: int
    """Its length in bytes."""
    dtype: str | None
    """The element type of a tensor; None for other data."""
    node: Json
    """Its node in the tree."""

    def chunks(self, store: TreeReader) -> list[Oid]:
        """Return the ids of its chunks in order; raises MalformedObjectError if there are none."""
        node = self.node
        if type(node) is dict and "list" in node:
            return parse_list(store.read(Oid.parse(node["list"]), Kind.LIST))
        if type(node) is dict and type(node.get("chunks")) is list:
            return [Oid.parse(text) for text in node["chunks"]]  # type: ignore[union-attr]
        raise MalformedObjectError(f"{self.path} has no chunks")


def contents(store: TreeReader, root: Oid, *, without: Container[str] = ()) -> Iterator[Content]:
    """Yield all content under a root tree that has chunks, except in the components `without`."""
    tree = trees.parse(store.read(root, Kind.TREE))
    if not isinstance(tree, Tree):
        raise MalformedObjectError(f"tree {root.short} is not a root tree")
    for name, entry in tree.entries.items():
        if name not in without:
            yield from _node(store, entry, name)


def _node(store: TreeReader, node: Json, path: str) -> Iterator[Content]:
    if type(node) is list:
        for number, item in enumerate(node):
            yield from _node(store, item, f"{path}[{number}]")
    elif type(node) is dict:
        if type(node.get("nbytes")) is int:
            dtype = node.get("dtype")
            yield Content(path, int(node["nbytes"]), dtype if type(dtype) is str else None, node)  # type: ignore[arg-type]
        elif node.keys() == {"tree"}:
            yield from _tree(store, Oid.parse(node["tree"]), path)
        elif len(node) == 1:
            ((tag, payload),) = node.items()
            yield from _tagged(store, tag, payload, path)


def _tree(store: TreeReader, oid: Oid, path: str) -> Iterator[Content]:
    tree = trees.parse(store.read(oid, Kind.TREE))
    for number, storage in enumerate(tree.storages):
        yield from _node(store, storage, f"{path}{{{number}}}")
    if isinstance(tree, Tree):
        for name, entry in tree.entries.items():
            yield from _node(store, entry, f"{path}.{name}")
    else:
        yield from _node(store, tree.value, path)


def _tagged(store: TreeReader, tag: str, payload: Json, path: str) -> Iterator[Content]:
    if tag in ("dict", "OrderedDict", "Counter") and type(payload) is list:
        for pair in payload:
            if type(pair) is list and len(pair) == 2:
                yield from _node(store, pair[1], _below(path, pair[0]))
    elif type(payload) is dict and "nbytes" not in payload:
        for name, item in payload.items():
            yield from _node(store, item, path if name == "data" else f"{path}.{name}")
    else:
        yield from _node(store, payload, path)


def _below(path: str, key: Json) -> str:
    return f"{path}.{key}" if type(key) is str else f"{path}[{key!r:.40}]"


def blobs(
    store: TreeReader, entry: Json, *, visit: Callable[[Kind, bytes], object] = lambda *_: None
) -> Iterator[Oid]:
    """Yield the blobs under one entry of a tree, once for each reference.

    `visit` is called with the kind and the body of each tree and list that is read.
    """
    pending = list(references(ValueTree(entry)))
    while pending:
        kind, oid = pending.pop()
        if kind is Kind.BLOB:
            yield oid
        else:
            body = store.read(oid, kind)
            visit(kind, body)
            pending.extend(references_in(kind, body))
