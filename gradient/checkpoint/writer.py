"""One state into one tree.

Goals: every chunk of the whole state goes through one pipeline (so that the workers never drain
between tensors), device memory is copied to the host a tensor at a time, and what did not change
keeps its tree id. Plan: encode every component to JSON with holes where chunk ids go; push all
chunks; fill the holes; write the trees, children first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from gradient.checkpoint import grouping, sharing, walk
from gradient.checkpoint.bases import Bases
from gradient.codec.chunks import ranges
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.state import tensors, values

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from gradient.store.transaction import Transaction

INLINE_BYTES = 256
"""Data up to this size stands in the tree itself, as hex."""

LISTED_CHUNKS = 64
"""A tensor of more chunks than this names a list object instead of the chunks."""

SUBTREE_BYTES = 4096
"""An entry of a component whose JSON is longer than this becomes a tree of its own."""


def write_state(
    transaction: Transaction,
    state: Mapping[str, Any],
    *,
    carried: Mapping[str, Json] | None = None,
    bases: Bases | None = None,
) -> Oid:
    """Store every component of a state as one tree and return the id of the root tree.

    `carried` are entries of another root tree that are taken over as they stand. Chunks may be
    stored as differences from those of `bases`. Live tensors are read until this returns. Raises
    UnsupportedValueError before anything is written.
    """
    holes: list[_Hole] = []
    components = {name: _encode(value, name, holes) for name, value in state.items()}
    _fill(transaction, holes, bases)
    entries = dict(carried or {})
    keep(transaction, entries)
    for name, component in components.items():
        entries[name] = {"tree": str(_write_component(transaction, component))}
    return write_root(transaction, entries)


def keep(transaction: Transaction, entries: Mapping[str, Json]) -> None:
    """Take over what the entries of a root tree stand on; it is not read, only looked up."""
    for entry in entries.values():
        transaction.keep(walk.blobs(transaction, entry))


def write_root(transaction: Transaction, entries: Mapping[str, Json]) -> Oid:
    """Store a root tree: component names to their trees."""
    return transaction.put(Kind.TREE, Tree(dict(sorted(entries.items()))).to_bytes())


def write_value(transaction: Transaction, value: Any, *, name: str) -> Oid:
    """Store one plain value (an environment, hyperparameters) as a tree and return its id."""
    holes: list[_Hole] = []
    component = _encode(value, name, holes)
    _fill(transaction, holes)
    return _write_component(transaction, component)


def replace_entries(
    transaction: Transaction, component: Tree, changed: Mapping[str, Any], *, name: str
) -> Oid | None:
    """Store a component that shares every entry with `component` except the changed ones.

    Returns None, having written nothing, where the new entries cannot stand beside the old: they
    share memory among themselves, or the component is grouped by module.
    """
    holes: list[_Hole] = []
    encoded = _encode(dict(changed), name, holes)
    if not isinstance(encoded, _Mapping) or encoded.storages or encoded.flat or component.flat:
        return None
    _fill(transaction, holes)
    entries = {**component.entries, **_settle(transaction, encoded).entries}
    tree = Tree(entries, component.type, storages=component.storages)
    return transaction.put(Kind.TREE, tree.to_bytes())


@dataclass(slots=True)
class _Hole:
    """A node that waits for the ids of its chunks."""

    node: dict[str, Json]
    data: Buffer | torch.Tensor
    path: str
    dtype: str | None
    nbytes: int
    width: int


@dataclass(slots=True)
class _Mapping:
    """A component that has names."""

    entries: dict[str, Any]
    type: str
    flat: bool
    storages: list[Json]


@dataclass(slots=True)
class _Value:
    """A component that is one value."""

    value: Json
    storages: list[Json]


class _Sink:
    """Takes tensors and data out of one component's values while they are encoded."""

    def __init__(self, holes: list[_Hole], value: Any, path: str) -> None:
        self._holes = holes
        shared, self._places = sharing.shared(value)
        self._starts = [storage.start for storage in shared]
        self._keepalive = [storage.content() for storage in shared]
        self.storages: list[Json] = [
            self._own(content, f"{path}{{{number}}}")
            for number, content in enumerate(self._keepalive)
        ]

    def tensor(self, tensor: torch.Tensor, path: str) -> Json:
        """Encode a tensor: its own chunks, or a window on a storage of the component."""
        number = self._places.get(id(tensor))
        if number is None:
            return self._own(tensor, path)
        _, start, _ = tensors.extent(tensor)
        node = replace(tensors.describe(tensor, path), stride=None).to_json()
        node["stride"] = [*tensor.stride()]
        node["storage"] = number
        node["offset"] = start - self._starts[number]
        return node

    def data(self, buffer: Buffer, width: int, path: str) -> Json:
        """Encode plain bytes."""
        node: dict[str, Json] = {}
        self._reserve(_Hole(node, buffer, path, None, memoryview(buffer).nbytes, width))
        return node

    def _own(self, tensor: torch.Tensor, path: str) -> Json:
        spec = tensors.describe(tensor, path)
        node = spec.to_json()
        self._reserve(_Hole(node, tensor, path, spec.dtype, spec.nbytes, _width(spec)))
        return node

    def _reserve(self, hole: _Hole) -> None:
        if hole.nbytes <= INLINE_BYTES:
            hole.node["data"] = bytes(_memory(hole.data)).hex()
        else:
            hole.node["nbytes"] = hole.nbytes
            self._holes.append(hole)


def _width(spec: tensors.TensorSpec) -> int:
    """Bytes of the numbers an element consists of: a complex one is two."""
    return spec.itemsize // 2 if spec.dtype.startswith("complex") else spec.itemsize


def _memory(data: Buffer | torch.Tensor) -> memoryview:
    if isinstance(data, torch.Tensor):
        return tensors.memory(data)
    return memoryview(data).cast("B")


def _encode(value: Any, path: str, holes: list[_Hole]) -> _Mapping | _Value:
    sink = _Sink(holes, value, path)
    if not _has_names(value):
        return _Value(values.encode(value, put=sink, path=path), sink.storages)
    entries: dict[str, Any] = {
        name: values.encode(item, put=sink, path=f"{path}.{name}") for name, item in value.items()
    }
    has_tensors = any(isinstance(item, torch.Tensor) for item in value.values())
    grouped = grouping.group(entries) if has_tensors else None
    kind = type(value).__name__
    if grouped is None:
        return _Mapping(entries, kind, flat=False, storages=sink.storages)
    for name, item in grouped.items():
        if name not in entries:
            grouped[name] = _module(item)
    return _Mapping(grouped, kind, flat=True, storages=sink.storages)


def _has_names(value: Any) -> bool:
    """Whether a value is a mapping whose keys can be the names of a tree's entries."""
    if type(value) not in (dict, OrderedDict) or not all(type(name) is str for name in value):
        return False
    return not any("\ud800" <= letter <= "\udfff" for name in value for letter in name)


def _module(entries: dict[str, Any]) -> _Mapping:
    grouped = grouping.group(entries) if len(entries) > grouping.SPLIT else None
    if grouped is None:
        return _Mapping(entries, "dict", flat=True, storages=[])
    for name, item in grouped.items():
        if name not in entries:
            grouped[name] = _module(item)
    return _Mapping(grouped, "dict", flat=True, storages=[])


def _fill(transaction: Transaction, holes: list[_Hole], bases: Bases | None = None) -> None:
    """Push all chunks through the transaction and put their ids into the waiting nodes."""
    for width in sorted({hole.width for hole in holes}):
        mine = [hole for hole in holes if hole.width == width]
        against = [_bases_of(hole, bases) for hole in mine]
        stored = iter(
            transaction.put_chunks(
                _chunks(mine), width=width, bases=[oid for each in against for oid in each]
            )
        )
        for hole, tried in zip(mine, against, strict=True):
            oids = [next(stored) for _ in tried]
            if len(oids) > LISTED_CHUNKS:
                hole.node["list"] = str(transaction.put(Kind.LIST, b"".join(oids)))
            else:
                hole.node["chunks"] = [str(oid) for oid in oids]
            if bases is not None:
                written = [oid for oid, base in zip(oids, tried, strict=True) if base != oid]
                gained = sum(map(transaction.is_leaning, written))
                bases.learn(hole.path, tried=len(written) if any(tried) else 0, gained=gained)


def _bases_of(hole: _Hole, bases: Bases | None) -> Sequence[Oid | None]:
    """Return for each chunk of a hole the blob it may be stored as a difference from."""
    found = None if bases is None else bases.of(hole.path, hole.dtype, hole.nbytes)
    return [None for _ in ranges(hole.nbytes)] if found is None else found


def _chunks(holes: list[_Hole]) -> Iterator[Buffer]:
    """Yield the chunks of each hole; one hole's memory at a time is held for those before it."""
    for hole in holes:
        memory = _memory(hole.data)
        for start, stop in ranges(hole.nbytes):
            yield memory[start:stop]


def _write_component(transaction: Transaction, component: _Mapping | _Value) -> Oid:
    if isinstance(component, _Value):
        tree: Tree | ValueTree = ValueTree(component.value, tuple(component.storages))
    else:
        tree = _settle(transaction, component)
    return transaction.put(Kind.TREE, tree.to_bytes())


def _settle(transaction: Transaction, component: _Mapping) -> Tree:
    """Write the trees below a component, children first, and return the component's own."""
    entries: dict[str, Json] = {}
    for name, item in component.entries.items():
        if isinstance(item, _Mapping):
            entries[name] = {"tree": str(_write_component(transaction, item))}
        elif not component.flat and len(canonical.dumps(item)) > SUBTREE_BYTES:
            oid = _write_component(transaction, _subtree(item))
            entries[name] = {"tree": str(oid)}
        else:
            entries[name] = item
    return Tree(entries, component.type, component.flat, tuple(component.storages))


def _subtree(item: Json) -> _Mapping | _Value:
    """Turn a long value into a tree; a mapping with names keeps them visible as entries."""
    if type(item) is dict and len(item) == 1:
        ((tag, pairs),) = item.items()
        if tag in ("dict", "OrderedDict") and type(pairs) is list:
            named: dict[str, Any] = {}
            for pair in pairs:
                if type(pair) is list and type(pair[0]) is str:
                    named[pair[0]] = pair[1]
            if len(named) == len(pairs):
                return _Mapping(named, tag, flat=False, storages=[])
    return _Value(item, [])
