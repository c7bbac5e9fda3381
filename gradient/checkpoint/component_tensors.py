"""The tensors of one component, found in its trees. `load` reads the content of one tensor.

torch is imported when the first tensor is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gradient.checkpoint.references import parse_list
from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.canonical import MAX_DEPTH, Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree

if TYPE_CHECKING:
    import torch

_MAPPINGS = ("dict", "OrderedDict", "Counter")
_FLAGS = frozenset({"requires_grad", "parameter"})


class BlobReader(Protocol):
    """The part of the object database that reading tensors uses."""

    def read(self, oid: Oid, kind: Kind) -> bytes:
        """Return a verified object."""

    def read_blobs(self, jobs: list[tuple[Oid, memoryview]]) -> None:
        """Fill every buffer with its verified blob."""


@dataclass(frozen=True, slots=True)
class ComponentTensor:
    """One tensor of a component."""

    name: str
    """Its name in the component, parts joined by dots."""
    node: dict[str, Json]
    """Its node in the tree."""
    component: Tree | ValueTree
    """The component's tree, which lists the storages that tensors share."""
    store: BlobReader
    """The object database that has its content."""

    @property
    def dtype(self) -> str:
        """The stored name of its element type."""
        return str(self.node.get("dtype"))

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        shape = self.node.get("shape")
        if type(shape) is not list or not all(type(size) is int for size in shape):
            raise MalformedObjectError(f"{self.name} has no shape")
        return tuple(shape)  # type: ignore[arg-type]

    @property
    def elements(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def content(self) -> Json:
        """Its node without flags: two tensors with equal `content` are equal bit by bit."""
        content: dict[str, Json] = {k: v for k, v in self.node.items() if k not in _FLAGS}
        number = content.get("storage")
        if type(number) is int and 0 <= number < len(self.component.storages):
            content["storage"] = self.component.storages[number]
        return content

    @property
    def memory(self) -> Json:
        """The number of the storage it shares with other tensors; None if it shares no memory."""
        return self.node.get("storage")

    def chunks(self) -> list[Oid] | None:
        """Return the ids of its chunks in the order of memory; None if it has no chunks of its own.

        Small tensors are inline in the tree. Shared tensors use a storage of the component.
        """
        named = self.node.get("chunks")
        if type(named) is list:
            return [Oid.parse(text) for text in named]
        if "list" in self.node:
            return parse_list(self.store.read(Oid.parse(self.node["list"]), Kind.LIST))
        return None

    def load(self) -> torch.Tensor:
        """Return the verified tensor on the CPU, in memory of its own."""
        from gradient.checkpoint.reader import read_tensor  # lazily: it imports torch

        return read_tensor(self.store, self.component, self.node)


def tensors_in(store: BlobReader, entry: Json) -> Iterator[ComponentTensor]:
    """Yield the tensors under one entry of a root tree, in the user's order.

    Other values, and tensors in sets, are skipped.
    """
    if type(entry) is not dict or entry.keys() != {"tree"}:
        raise MalformedObjectError(f"not an entry of a root tree: {entry!r:.80}")
    component = _tree(store, entry["tree"])
    for name, node in _walk(store, component, "", 0):
        yield ComponentTensor(name, node, component, store)


def _walk(
    store: BlobReader, tree: Tree | ValueTree, path: str, depth: int
) -> Iterator[tuple[str, dict[str, Json]]]:
    if depth > MAX_DEPTH:
        raise MalformedObjectError(f"trees nested deeper than {MAX_DEPTH} levels")
    if isinstance(tree, ValueTree):
        yield from _value(store, tree.value, path, depth)
    else:
        for name, node in tree.entries.items():
            yield from _value(store, node, _join(path, name), depth)


def _value(
    store: BlobReader, node: Json, path: str, depth: int
) -> Iterator[tuple[str, dict[str, Json]]]:
    if type(node) is list:
        for number, item in enumerate(node):
            yield from _value(store, item, _join(path, str(number)), depth)
    elif type(node) is dict and len(node) == 1:
        ((tag, payload),) = node.items()
        if tag == "tensor" and type(payload) is dict:
            yield path, payload
        elif tag == "tree":
            yield from _walk(store, _tree(store, payload), path, depth + 1)
        elif tag in _MAPPINGS and type(payload) is list:
            for pair in payload:
                if type(pair) is list and len(pair) == 2:
                    yield from _value(store, pair[1], _join(path, _key(pair[0])), depth)
        elif tag == "tuple":
            yield from _value(store, payload, path, depth)
        elif tag in ("defaultdict", "deque") and type(payload) is dict:
            items = payload.get("items")
            inner: Json = {"dict": items} if tag == "defaultdict" else items
            yield from _value(store, inner, path, depth)


def _tree(store: BlobReader, node: Json) -> Tree | ValueTree:
    return trees.parse(store.read(Oid.parse(node), Kind.TREE))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _key(node: Json) -> str:
    return node if type(node) is str else f"{node!r:.40}"


def non_tensor_names(store: BlobReader, entry: Json) -> list[str]:
    """Return the names in a component whose values are not tensors (extra state)."""
    component = _tree(store, entry["tree"] if type(entry) is dict else None)
    names: list[str] = []
    pending: list[tuple[str, Tree | ValueTree]] = [("", component)]
    while pending:
        path, tree = pending.pop()
        if not isinstance(tree, Tree):
            continue
        for name, node in tree.entries.items():
            if type(node) is dict and node.keys() == {"tree"} and tree.flat:
                pending.append((_join(path, name), _tree(store, node["tree"])))
            elif type(node) is not dict or node.keys() != {"tensor"}:
                names.append(_join(path, name))
    return names
