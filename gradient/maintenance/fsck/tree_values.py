"""The check of the values in a tree against the format, without decoding them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from gradient.codec.chunks import CHUNK_BYTES
from gradient.errors import MalformedObjectError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.objects.tree import Tree, ValueTree

ITEM_SIZES: Final[dict[str, int]] = {
    **dict.fromkeys(["bool", "uint8", "int8", "bits8", "bits1x8", "bits2x4", "bits4x2"], 1),
    **dict.fromkeys(["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"], 1),
    **dict.fromkeys(["float8_e8m0fnu", "float4_e2m1fn_x2"], 1),
    **dict.fromkeys(["uint16", "int16", "float16", "bfloat16", "bits16"], 2),
    **dict.fromkeys(["uint32", "int32", "float32", "complex32"], 4),
    **dict.fromkeys(["uint64", "int64", "float64", "complex64"], 8),
    "complex128": 16,
}
"""The dtypes of tensors and the bytes of one element (docs/format.md, "Tensors")."""

INLINE_BYTES: Final = 512
CHUNKED_BYTES: Final = 256
LISTED_CHUNKS: Final = 64
_MOST_DIMENSIONS: Final = 64
_MOST_BYTES: Final = 1 << 60
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
_TENSOR: Final = {"dtype", "shape", "stride", "requires_grad", "parameter"}
_BULK: Final = {"nbytes", "chunks", "list"}


@dataclass(frozen=True, slots=True)
class Bulk:
    """Data stored in chunks."""

    nbytes: int
    chunks: tuple[Oid, ...]
    """The chunks, if the tree names them."""
    listed: Oid | None
    """The list object that names them otherwise."""

    def lengths(self) -> Iterator[int]:
        """Yield the required length of each chunk."""
        for start in range(0, self.nbytes, CHUNK_BYTES):
            yield min(CHUNK_BYTES, self.nbytes - start)

    @property
    def count(self) -> int:
        """The required number of chunks."""
        return -(-self.nbytes // CHUNK_BYTES)


class Judge:
    """Walks the values of one tree, and collects their chunks and lists."""

    def __init__(self) -> None:
        self.bulks: list[Bulk] = []
        self.subtrees: list[Oid] = []

    def tree(self, tree: Tree | ValueTree) -> None:
        """Check a tree; raise MalformedObjectError or MalformedTensorError for a fault."""
        for storage in tree.storages:
            self._tensor(storage)
        entries = tree.entries.values() if isinstance(tree, Tree) else [tree.value]
        for entry in entries:
            if type(entry) is dict and entry.keys() == {"tree"} and isinstance(tree, Tree):
                self.subtrees.append(Oid.parse(entry["tree"]))
            else:
                self._value(entry)

    def _value(self, node: Json) -> None:
        if type(node) is list:
            for item in node:
                self._value(item)
        elif type(node) is dict:
            if len(node) != 1:
                raise MalformedObjectError(f"no value: {node!r:.80}")
            ((tag, content),) = node.items()
            judge = _TAGS.get(tag)
            if judge is None:
                raise MalformedObjectError(f"no value has the tag {tag!r:.80}")
            judge(self, content)
        elif type(node) is int:
            canonical.unpack_number(node)

    def _items(self, node: Json) -> None:
        if type(node) is not list:
            raise MalformedObjectError(f"no items: {node!r:.80}")
        self._value(node)

    def _pairs(self, node: Json) -> None:
        if type(node) is not list or any(type(p) is not list or len(p) != 2 for p in node):
            raise MalformedObjectError(f"no pairs: {node!r:.80}")
        self._value(node)

    def _named(self, node: Json, *names: str) -> dict[str, Json]:
        if type(node) is not dict or node.keys() != set(names):
            raise MalformedObjectError(f"no {' and '.join(names)}: {node!r:.80}")
        return node

    def _defaultdict(self, node: Json) -> None:
        self._pairs(self._named(node, "factory", "items")["items"])

    def _deque(self, node: Json) -> None:
        self._items(self._named(node, "items", "maxlen")["items"])

    def _complex(self, node: Json) -> None:
        if type(node) is not list or len(node) != 2:
            raise MalformedObjectError(f"no complex number: {node!r:.80}")
        for part in node:
            canonical.unpack_number(part)

    def _scalar(self, node: Json) -> None:
        if type(node) is not list or len(node) != 2 or type(node[0]) is not str:
            raise MalformedObjectError(f"no scalar: {node!r:.80}")
        self._hex(node[1])

    def _array(self, node: Json) -> None:
        if type(node) is not dict or not {"dtype", "shape", "data"} <= node.keys():
            raise MalformedObjectError(f"no array: {node!r:.80}")
        _sizes(node["shape"])
        self._data(node["data"])

    def _hex(self, node: Json) -> None:
        if type(node) is not str or _HEX.fullmatch(node) is None:
            raise MalformedObjectError(f"no hex: {node!r:.80}")

    def _text(self, node: Json) -> None:
        if type(node) is not str:
            raise MalformedObjectError(f"no text: {node!r:.80}")

    def _data(self, node: Json) -> None:
        if type(node) is dict:
            self._bulk(node)
        else:
            self._hex(node)

    def _bulk(self, node: dict[str, Json]) -> None:
        nbytes, chunks = node.get("nbytes"), node.get("chunks")
        named = node.keys() & _BULK
        if type(nbytes) is not int or not CHUNKED_BYTES < nbytes <= _MOST_BYTES or len(named) != 2:
            raise MalformedTensorError(f"{nbytes!r:.40} is no length of data in chunks")
        if "list" in node:
            bulk = Bulk(nbytes, (), Oid.parse(node["list"]))
        elif type(chunks) is list:
            bulk = Bulk(nbytes, tuple(Oid.parse(text) for text in chunks), None)
        else:
            raise MalformedTensorError(f"no chunks: {chunks!r:.80}")
        fits = bulk.listed is not None or len(bulk.chunks) == bulk.count
        if not fits or (bulk.listed is None) != (bulk.count <= LISTED_CHUNKS):
            raise MalformedTensorError(f"{len(bulk.chunks)} chunks for {nbytes} bytes")
        self.bulks.append(bulk)

    def _tensor(self, node: Json) -> None:
        if type(node) is not dict:
            raise MalformedTensorError(f"no tensor: {node!r:.80}")
        content = node.keys() - _TENSOR
        dtype = node.get("dtype")
        if type(dtype) is not str or dtype not in ITEM_SIZES:
            raise MalformedTensorError(f"no dtype: {dtype!r:.80}")
        nbytes = math.prod(_sizes(node.get("shape"))) * ITEM_SIZES[dtype]
        if "stride" in node:
            _sizes(node["stride"])
        if content == {"storage", "offset"}:
            _sizes([node["storage"], node["offset"]])
        elif content == {"data"}:
            self._hex(node["data"])
            if len(str(node["data"])) != 2 * nbytes or nbytes > INLINE_BYTES:
                raise MalformedTensorError(f"{len(str(node['data'])) // 2} bytes for {nbytes}")
        elif content < _BULK and node.get("nbytes") == nbytes:
            self._bulk(node)
        else:
            names = ", ".join(sorted(content))
            raise MalformedTensorError(f"a tensor of {nbytes} bytes with {names:.80}")


class MalformedTensorError(MalformedObjectError):
    """The description of a tensor, or of data in chunks, contradicts itself."""


def _sizes(node: Json) -> list[int]:
    if type(node) is not list or len(node) > _MOST_DIMENSIONS:
        raise MalformedTensorError(f"no sizes: {node!r:.80}")
    if any(type(size) is not int or not 0 <= size <= _MOST_BYTES for size in node):
        raise MalformedTensorError(f"no sizes: {node!r:.80}")
    return [size for size in node if type(size) is int]


_TAGS: Final[dict[str, Callable[[Judge, Json], None]]] = {
    "int": lambda _, node: _number({"int": node}),
    "float": lambda _, node: _number({"float": node}),
    "str": Judge._hex,
    "complex": Judge._complex,
    "bytes": Judge._data,
    "bytearray": Judge._data,
    "pickle": Judge._data,
    "tuple": Judge._items,
    "dict": Judge._pairs,
    "OrderedDict": Judge._pairs,
    "Counter": Judge._pairs,
    "defaultdict": Judge._defaultdict,
    "deque": Judge._deque,
    "set": Judge._items,
    "frozenset": Judge._items,
    "size": Judge._items,
    "dtype": Judge._text,
    "device": Judge._text,
    "numpy": Judge._scalar,
    "ndarray": Judge._array,
    "tensor": Judge._tensor,
}


def _number(node: Json) -> None:
    canonical.unpack_number(node)
