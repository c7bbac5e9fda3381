"""Decoding of tagged JSON. Each value has exactly one accepted form; all types are in tables."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import torch

from gradient.errors import MalformedObjectError, UnsupportedValueError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.state import numpy_arrays
from gradient.state.encoder import check_key
from gradient.state.value_format import (
    CHUNKED_BYTES,
    FACTORIES,
    INLINE_BYTES,
    VALUE_DTYPES,
    ContentReader,
    Pickled,
)


class Decoder:
    """Decodes values; a subclass may decode further tags in `extra`."""

    def __init__(self, reader: ContentReader) -> None:
        self._reader = reader

    def extra(self, tag: str, payload: Json) -> Any:
        """Decode a tag that is not in the table; this class raises MalformedObjectError."""
        raise MalformedObjectError(f"unknown tag {tag!r:.80}")

    def decode(self, node: Json) -> Any:
        """Decode one value."""
        if node is None or type(node) in (bool, int, float, str):
            return canonical.unpack_number(node) if type(node) in (int, float) else node
        if type(node) is list:
            return [self.decode(item) for item in node]
        if type(node) is not dict or len(node) != 1:
            raise _malformed("a value", node)
        ((tag, payload),) = node.items()
        decoder = _DECODERS.get(tag)
        return self.extra(tag, payload) if decoder is None else decoder(self, payload)

    def _list(self, node: Json) -> list[Any]:
        if type(node) is not list:
            raise _malformed("an array", node)
        return [self.decode(item) for item in node]

    def _pairs(self, node: Json, mapping: Any) -> Any:
        if type(node) is not list:
            raise _malformed("an array of pairs", node)
        for pair in node:
            if type(pair) is not list or len(pair) != 2:
                raise _malformed("a pair", pair)
            key = self._key(pair[0])
            if key in mapping:
                raise MalformedObjectError(f"the key {key!r:.80} twice in one mapping")
            mapping[key] = self.decode(pair[1])
        return mapping

    def _key(self, node: Json) -> Any:
        key = self.decode(node)
        try:
            check_key(key, "")
        except UnsupportedValueError as error:
            raise MalformedObjectError(str(error)) from None
        return key

    def _set(self, node: Json, cls: type) -> Any:
        items = node if type(node) is list else []
        if type(node) is not list or items != sorted(items, key=canonical.dumps):
            raise _malformed("a sorted array", node)
        result = cls(self._key(item) for item in items)
        if len(result) != len(items):
            raise MalformedObjectError("an element twice in one set")
        return result

    def _bytes(self, node: Json) -> bytes | bytearray:
        if type(node) is str:
            return _unhex(node, INLINE_BYTES)
        data = self._reader.data(node)
        if len(data) <= CHUNKED_BYTES:
            raise MalformedObjectError(f"{len(data)} bytes that belong in the value")
        return data

    def _defaultdict(self, node: Json) -> defaultdict[Any, Any]:
        items, factory = _fields(node, "items", "factory")
        if factory is not None and (type(factory) is not str or factory not in FACTORIES):
            raise _malformed("a default factory", factory)
        default = None if factory is None else FACTORIES[factory]
        result: defaultdict[Any, Any] = self._pairs(items, defaultdict(default))
        return result

    def _deque(self, node: Json) -> deque[Any]:
        items, maxlen = _fields(node, "items", "maxlen")
        values = self._list(items)
        if maxlen is not None and (
            type(maxlen) is not int or not len(values) <= maxlen <= sys.maxsize
        ):
            raise _malformed("a maximal length", maxlen)
        return deque(values, maxlen)

    def _ndarray(self, node: Json) -> Any:
        if type(node) is not dict or "data" not in node:
            raise _malformed("an array", node)
        fields = {name: item for name, item in node.items() if name != "data"}
        return numpy_arrays.build(fields, self._bytes(node["data"]))

    def _numpy(self, node: Json) -> Any:
        if type(node) is not list or len(node) != 2 or type(node[1]) is not str:
            raise _malformed("a NumPy scalar", node)
        return numpy_arrays.scalar(node[0], _unhex(node[1], len(node[1])))

    def _complex(self, node: Json) -> complex:
        parts = self._list(node)
        if len(parts) != 2 or type(parts[0]) is not float or type(parts[1]) is not float:
            raise _malformed("a complex number", node)
        return complex(*parts)

    def _size(self, node: Json) -> torch.Size:
        sizes = self._list(node)
        if not all(type(size) is int and abs(size) <= sys.maxsize for size in sizes):
            raise _malformed("a size", node)
        return torch.Size(sizes)


def _str(decoder: Decoder, node: Json) -> str:
    raw = _unhex(node, None)
    try:
        text = raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise _malformed("a string", node) from None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text
    raise MalformedObjectError("a tagged string that needs no tag")


def _dtype(decoder: Decoder, node: Json) -> torch.dtype:
    if type(node) is not str or node not in VALUE_DTYPES:
        raise _malformed("a dtype", node)
    return VALUE_DTYPES[node]


def _device(decoder: Decoder, node: Json) -> torch.device:
    try:
        device = torch.device(node)  # type: ignore[arg-type]
    except (RuntimeError, TypeError):
        raise _malformed("a device", node) from None
    if str(device) != node:
        raise _malformed("a device", node)
    return device


_DECODERS: dict[str, Callable[[Decoder, Json], Any]] = {
    "int": lambda decoder, node: canonical.unpack_number({"int": node}),
    "float": lambda decoder, node: canonical.unpack_number({"float": node}),
    "str": _str,
    "complex": Decoder._complex,
    "bytes": lambda decoder, node: bytes(decoder._bytes(node)),
    "bytearray": lambda decoder, node: bytearray(decoder._bytes(node)),
    "pickle": lambda decoder, node: Pickled(decoder._bytes(node)),
    "tuple": lambda decoder, node: tuple(decoder._list(node)),
    "dict": lambda decoder, node: decoder._pairs(node, {}),
    "OrderedDict": lambda decoder, node: decoder._pairs(node, OrderedDict()),
    "Counter": lambda decoder, node: decoder._pairs(node, Counter()),
    "defaultdict": Decoder._defaultdict,
    "deque": Decoder._deque,
    "set": lambda decoder, node: decoder._set(node, set),
    "frozenset": lambda decoder, node: decoder._set(node, frozenset),
    "size": Decoder._size,
    "dtype": _dtype,
    "device": _device,
    "numpy": Decoder._numpy,
    "ndarray": Decoder._ndarray,
    "tensor": lambda decoder, node: decoder._reader.tensor(node),
}
"""The decoder of each tag. Tags are stored, so a tag never changes its meaning."""


def _fields(node: Json, *names: str) -> list[Json]:
    if type(node) is not dict or set(node) != set(names):
        raise _malformed(f"an object of {', '.join(names)}", node)
    return [node[name] for name in names]


def _unhex(text: Json, limit: int | None) -> bytes:
    if type(text) is not str or (limit is not None and len(text) > 2 * limit):
        raise _malformed("bytes in hex", text)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise _malformed("bytes in hex", text) from None
    if data.hex() != text:
        raise _malformed("bytes in hex", text)
    return data


def _malformed(expected: str, node: object) -> MalformedObjectError:
    return MalformedObjectError(f"not {expected}: {node!r:.80}")
