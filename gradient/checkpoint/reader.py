"""Reading one state from one tree. Every byte is verified before the state is returned.

Plan: decode the trees, allocate a tensor for each tensor node and record which chunk belongs where;
then read all chunks through one pipeline directly into that memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from gradient.checkpoint import shared_memory
from gradient.checkpoint.references import parse_list
from gradient.checkpoint.writer import LISTED_CHUNKS
from gradient.codec.chunks import ranges
from gradient.errors import MalformedObjectError, MissingObjectError
from gradient.objects import tree as trees
from gradient.objects.canonical import MAX_DEPTH, Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.state import tagged_json, tensors
from gradient.state.tensors import TensorSpec
from gradient.state.value_format import CHUNKED_BYTES, INLINE_BYTES

if TYPE_CHECKING:
    import torch


class ObjectReader(Protocol):
    """The part of the object database that reading uses."""

    def read(self, oid: Oid, kind: Kind) -> bytes:
        """Return a verified object."""

    def read_blobs(self, jobs: list[tuple[Oid, memoryview]]) -> None:
        """Fill every buffer with its verified blob."""


def read_state(
    store: ObjectReader, root: Oid, *, components: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the state under a root tree, or only the named components of it.

    Tensors are on the CPU, in memory of their own, with the dtype, strides and sharing they had.
    Raises MissingObjectError if the tree lacks a component, and IntegrityError for damage.
    """
    entries = component_entries(store, root)
    names = list(entries) if components is None else list(components)
    jobs: list[tuple[Oid, memoryview]] = []
    state = {}
    for name in names:
        if name not in entries:
            raise MissingObjectError(f"component {name!r} of tree {root.short}")
        state[name] = _component(store, entries[name], jobs)
    store.read_blobs(jobs)
    return state


def read_value(store: ObjectReader, oid: Oid) -> Any:
    """Return the plain value that `write_value` stored."""
    jobs: list[tuple[Oid, memoryview]] = []
    value = _component(store, {"tree": str(oid)}, jobs)
    store.read_blobs(jobs)
    return value


def read_entries(
    store: ObjectReader, entry: Json, *, without: Collection[str] = ()
) -> dict[str, Any]:
    """Return the entries of one component except those named in `without`, which are not read."""
    tree = component_tree(store, entry)
    if not isinstance(tree, Tree):
        raise MalformedObjectError("the component has no entries")
    kept = {name: node for name, node in tree.entries.items() if name not in without}
    jobs: list[tuple[Oid, memoryview]] = []
    value: dict[str, Any] = _value_of(
        replace(tree, entries=kept), _ComponentReader(store, jobs, tree)
    )
    store.read_blobs(jobs)
    return value


def read_tensor(store: ObjectReader, component: Tree | ValueTree, node: Json) -> torch.Tensor:
    """Return the tensor that a node in a component, or in a tree below it, describes."""
    jobs: list[tuple[Oid, memoryview]] = []
    tensor = _ComponentReader(store, jobs, component).tensor(node)
    store.read_blobs(jobs)
    return tensor


def component_entries(store: ObjectReader, root: Oid) -> Mapping[str, Json]:
    """Return a root tree's entries: component names to ``{"tree": id}``."""
    tree = trees.parse(store.read(root, Kind.TREE))
    if not isinstance(tree, Tree):
        raise MalformedObjectError(f"tree {root.short} is not a root tree")
    return tree.entries


def component_tree(store: ObjectReader, entry: Json) -> Tree | ValueTree:
    """Return the tree that an entry of a root tree names."""
    return trees.parse(store.read(_tree_id(entry), Kind.TREE))


def _component(store: ObjectReader, entry: Json, jobs: list[tuple[Oid, memoryview]]) -> Any:
    tree = component_tree(store, entry)
    return _value_of(tree, _ComponentReader(store, jobs, tree))


def _value_of(tree: Tree | ValueTree, source: _ComponentReader, depth: int = 0) -> Any:
    if isinstance(tree, ValueTree):
        return tagged_json.decode(tree.value, reader=source)
    mapping: dict[str, Any] = OrderedDict() if tree.type == "OrderedDict" else {}
    for name, entry in tree.entries.items():
        if not _is_tree(entry):
            _add(mapping, name, tagged_json.decode(entry, reader=source))
            continue
        below = _value_of(_subtree(source, entry, depth), source, depth + 1)
        if not tree.flat:
            _add(mapping, name, below)
        elif isinstance(below, dict):
            for rest, item in below.items():
                _add(mapping, f"{name}.{rest}", item)
        else:
            raise MalformedObjectError(f"the module {name!r} of a flat tree has no names")
    return mapping


def _subtree(source: _ComponentReader, entry: Json, depth: int) -> Tree | ValueTree:
    tree = component_tree(source.store, entry)
    if tree.storages:
        raise MalformedObjectError("a tree below a component's has storages of its own")
    if depth >= MAX_DEPTH:
        raise MalformedObjectError(f"trees nested deeper than {MAX_DEPTH} levels")
    return tree


def _add(mapping: dict[str, Any], name: str, value: Any) -> None:
    if name in mapping:
        raise MalformedObjectError(f"the name {name!r:.80} twice in one component")
    mapping[name] = value


def _is_tree(entry: Json) -> bool:
    return type(entry) is dict and entry.keys() == {"tree"}


def _tree_id(entry: Json) -> Oid:
    if type(entry) is dict and entry.keys() == {"tree"}:
        return Oid.parse(entry["tree"])
    raise MalformedObjectError(f"not an entry of a root tree: {entry!r:.80}")


@dataclass(slots=True)
class _Storage:
    """Shared memory, decoded with the first tensor that uses it."""

    node: Json
    tensor: torch.Tensor | None = None


class _ComponentReader:
    """Provides the tensors and bytes of one component while its values are decoded."""

    def __init__(
        self, store: ObjectReader, jobs: list[tuple[Oid, memoryview]], component: Tree | ValueTree
    ) -> None:
        self.store = store
        self.storages = [_Storage(node) for node in component.storages]
        self._jobs = jobs

    def tensor(self, node: Json) -> torch.Tensor:
        """Allocate the tensor that a node describes and request its chunks."""
        fields = _fields(node, {"dtype", "shape"}, _TENSOR_OPTIONS)
        if "storage" in fields:
            return self._shared_tensor(fields)
        content = {name: fields[name] for name in _CONTENT_FIELDS & fields.keys()}
        spec = TensorSpec.from_json({k: v for k, v in fields.items() if k not in _CONTENT_FIELDS})
        chunks = self._chunk_ids(content, spec.nbytes)
        tensor = tensors.allocate(spec)
        self._request(chunks, content, tensors.writable_memory(tensor))
        return tensor

    def data(self, node: Json) -> bytearray:
        """Read, verify and return plain bytes."""
        content = _fields(node, set(), _CONTENT_FIELDS)
        size = content.get("nbytes")
        if size is None:
            return bytearray(_inline(content))
        if type(size) is not int:
            raise MalformedObjectError(f"data of {size!r:.40} bytes")
        chunks = self._chunk_ids(content, size)
        out = bytearray(size)
        jobs = self._jobs
        self._jobs = []
        self._request(chunks, content, memoryview(out))
        self.store.read_blobs(self._jobs)
        self._jobs = jobs
        return out

    def _chunk_ids(self, content: dict[str, Json], size: int) -> list[Oid]:
        """Return the ids of the chunks. Their number is checked before memory is allocated."""
        if size <= CHUNKED_BYTES or (size <= INLINE_BYTES and "data" in content):
            if content.keys() != {"data"} or len(_inline(content)) != size:
                raise MalformedObjectError(f"{size} bytes of data are not inline")
            return []
        count = -(-size // _CHUNK)
        if content.get("nbytes") != size:
            raise MalformedObjectError("a tensor's nbytes contradicts its dtype and shape")
        if count > LISTED_CHUNKS:
            if content.keys() != {"nbytes", "list"}:
                raise MalformedObjectError(f"a tensor of {count} chunks has no list")
            chunks = parse_list(self.store.read(Oid.parse(content["list"]), Kind.LIST))
        else:
            named = content.get("chunks")
            if content.keys() != {"nbytes", "chunks"} or type(named) is not list:
                raise MalformedObjectError("a tensor has no chunks")
            chunks = [Oid.parse(text) for text in named]
        if len(chunks) != count:
            raise MalformedObjectError(f"a tensor of {count} chunks names {len(chunks)}")
        return chunks

    def _request(self, chunks: list[Oid], content: dict[str, Json], out: memoryview) -> None:
        if not chunks:
            out[:] = _inline(content)
        for oid, (start, stop) in zip(chunks, ranges(out.nbytes), strict=False):
            self._jobs.append((oid, out[start:stop]))

    def _shared_tensor(self, fields: dict[str, Json]) -> torch.Tensor:
        """Return a view into a storage of the component, after checking its bounds."""
        if not fields.keys() >= {"storage", "offset", "stride"} or _CONTENT_FIELDS & fields.keys():
            raise MalformedObjectError("a shared tensor has other fields than these")
        number, stride, offset = fields["storage"], fields["stride"], fields["offset"]
        if type(number) is not int or not 0 <= number < len(self.storages):
            raise MalformedObjectError(f"no storage {number!r:.40}")
        storage = self.storages[number]
        if storage.tensor is None:
            if "storage" in _fields(storage.node, {"dtype", "shape"}, _TENSOR_OPTIONS):
                raise MalformedObjectError("a storage lies in a storage")
            storage.tensor = self.tensor(storage.node)
        spec = TensorSpec.from_json({k: v for k, v in fields.items() if k not in _VIEW_FIELDS})
        return shared_memory.view_into(storage.tensor, spec, stride=stride, offset=offset)


_CHUNK = next(iter(ranges(1 << 62)))[1]
_CONTENT_FIELDS = {"data", "nbytes", "chunks", "list"}
_VIEW_FIELDS = {"storage", "offset", "stride"}
_TENSOR_OPTIONS = {"requires_grad", "parameter", *_VIEW_FIELDS, *_CONTENT_FIELDS}


def _fields(node: Json, required: set[str], optional: set[str]) -> dict[str, Json]:
    if type(node) is dict and required <= node.keys() <= required | optional:
        return node
    raise MalformedObjectError(f"not the fields of a tensor: {node!r:.120}")


def _inline(content: dict[str, Json]) -> bytes:
    text = content.get("data")
    if type(text) is str:
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = None
        if raw is not None and raw.hex() == text:
            return raw
    raise MalformedObjectError("inline data is not hex")
