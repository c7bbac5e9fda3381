"""Encoding of values as tagged JSON."""

from __future__ import annotations

import datetime
import enum
import pathlib
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from gradient.errors import MalformedObjectError, UnsupportedValueError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.state import numpy_arrays
from gradient.state.value_format import (
    FACTORY_NAMES,
    INLINE_BYTES,
    MAX_DEPTH,
    VALUE_DTYPE_NAMES,
    ContentWriter,
    Pickled,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

_REMEDY = (
    "Return plain data from the getter, or opt in to pickle for that one name when registering it "
    "(pickle=True)"
)

_HINTS: dict[type, str] = {
    torch.Generator: "its get_state()",
    random.Random: "its getstate()",
    np.random.Generator: "its bit_generator.state",
    np.random.RandomState: "its get_state()",
    pathlib.PurePath: "its str()",
    datetime.date: "its isoformat()",
    enum.Enum: "its value",
    torch.nn.Module: "its state_dict()",
    torch.optim.Optimizer: "its state_dict()",
}
"""The plain data that a getter can return instead, for common classes."""


class Encoder:
    """Encodes values; a subclass may replace parts of a value in `substitute`."""

    def __init__(self, writer: ContentWriter) -> None:
        self._writer = writer
        self._open: set[int] = set()

    def substitute(self, value: object, path: str) -> Json:
        """Return JSON that replaces the encoding of `value`, or None; this class returns None."""
        return None

    def encode(self, value: object, path: str, *, depth: int = 1) -> Json:
        """Encode one value at nesting level `depth` of its JSON; raises UnsupportedValueError."""
        if value is None or type(value) is bool:
            return value
        if depth > MAX_DEPTH:
            raise UnsupportedValueError(
                path, f"nested deeper than {MAX_DEPTH} levels of JSON", "Flatten it in the getter"
            )
        substitute = self.substitute(value, path)
        if substitute is not None:
            return substitute
        leaf = _LEAVES.get(type(value))
        if leaf is not None:
            return leaf(value, path)
        if isinstance(value, torch.Tensor):
            return {"tensor": self._writer.tensor(value, path)}
        if isinstance(value, np.generic) or type(value) is np.ndarray:
            return self._array(value, path)
        if type(value) in (bytes, bytearray, Pickled):
            return {_BYTES[type(value)]: self._bytes(value, 1, path)}  # type: ignore[arg-type]
        container = _CONTAINERS.get(type(value))
        if container is None:
            _refuse(value, path)
        with self._entered(value, path):
            return container(self, value, path, depth)

    @contextmanager
    def _entered(self, value: object, path: str) -> Iterator[None]:
        if id(value) in self._open:
            raise UnsupportedValueError(path, "a container that contains itself", _REMEDY)
        self._open.add(id(value))
        try:
            yield
        finally:
            self._open.remove(id(value))

    def _bytes(self, data: Buffer, width: int, path: str) -> Json:
        view = memoryview(data)
        return view.hex() if view.nbytes <= INLINE_BYTES else self._writer.data(data, width, path)

    def _array(self, value: Any, path: str) -> Json:
        name = numpy_arrays.dtype_name(value.dtype)
        if name is None or not numpy_arrays.is_exact(value):
            _refuse(value, path, f"a NumPy value of dtype {value.dtype}")
        if type(value) is np.ndarray:
            data = self._bytes(numpy_arrays.memory(value), numpy_arrays.width(value.dtype), path)
            return {"ndarray": numpy_arrays.describe(value, name) | {"data": data}}
        return {"numpy": [name, value.tobytes().hex()]}

    def _items(self, values: Iterable[object], path: str, depth: int) -> list[Json]:
        return [self.encode(v, f"{path}[{i}]", depth=depth) for i, v in enumerate(values)]

    def _pairs(self, value: dict[Any, Any], path: str, depth: int) -> list[Json]:
        pairs: list[Json] = []
        for key, item in value.items():
            where = f"{path}.{key}" if type(key) is str else f"{path}[{key!r:.40}]"
            check_key(key, where)
            node = self.encode(key, where, depth=depth + 1)
            pairs.append([node, self.encode(item, where, depth=depth + 1)])
        return pairs

    def _set(self, value: Iterable[object], path: str, depth: int) -> list[Json]:
        for item in value:
            check_key(item, f"{path}{{{item!r:.40}}}")
        return sorted(self._items(value, path, depth), key=canonical.dumps)


def _list(encoder: Encoder, value: Any, path: str, depth: int) -> Json:
    return encoder._items(value, path, depth + 1)


def _tuple(encoder: Encoder, value: Any, path: str, depth: int) -> Json:
    return {"tuple": encoder._items(value, path, depth + 2)}


def _mapping(encoder: Encoder, value: Any, path: str, depth: int) -> Json:
    return {type(value).__name__: encoder._pairs(value, path, depth + 2)}


def _defaultdict(encoder: Encoder, value: Any, path: str, depth: int) -> Json:
    factory = value.default_factory
    if factory is not None and FACTORY_NAMES.get(factory) is None:
        _refuse(value, path, f"a defaultdict whose factory is {factory!r:.80}")
    name = None if factory is None else FACTORY_NAMES[factory]
    return {"defaultdict": {"factory": name, "items": encoder._pairs(value, path, depth + 3)}}


def _deque(encoder: Encoder, value: Any, path: str, depth: int) -> Json:
    return {"deque": {"items": encoder._items(value, path, depth + 3), "maxlen": value.maxlen}}


def _set(encoder: Encoder, value: Any, path: str, depth: int) -> Json:
    return {type(value).__name__: encoder._set(value, path, depth + 2)}


_CONTAINERS: dict[type, Callable[[Encoder, Any, str, int], Json]] = {
    list: _list,
    tuple: _tuple,
    dict: _mapping,
    OrderedDict: _mapping,
    Counter: _mapping,
    defaultdict: _defaultdict,
    deque: _deque,
    set: _set,
    frozenset: _set,
}

_BYTES: dict[type, str] = {bytes: "bytes", bytearray: "bytearray", Pickled: "pickle"}


def _number(value: Any, path: str) -> Json:
    try:
        return canonical.pack_number(value)
    except MalformedObjectError as error:
        raise UnsupportedValueError(path, str(error), _REMEDY) from None


def _string(value: Any, path: str) -> Json:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, such as in file names that are not UTF-8
        return {"str": value.encode("utf-8", "surrogatepass").hex()}
    return str(value)


_LEAVES: dict[type, Callable[[Any, str], Json]] = {
    int: _number,
    float: _number,
    str: _string,
    complex: lambda value, path: {
        "complex": [_number(value.real, path), _number(value.imag, path)]
    },
    torch.Size: lambda value, path: {"size": [_number(size, path) for size in value]},
    torch.dtype: lambda value, path: {"dtype": _dtype_name(value, path)},
    torch.device: lambda value, path: {"device": str(value)},
}

_KEYS = frozenset(
    {bool, int, float, str, complex, bytes, type(None), torch.Size, torch.dtype, torch.device}
)
"""Types of keys and set elements; NumPy scalars, tuples and frozensets are checked separately."""


def _dtype_name(value: torch.dtype, path: str) -> str:
    name = VALUE_DTYPE_NAMES.get(value)
    if name is None:
        _refuse(value, path, f"the dtype {value}")
    return name


def check_key(key: object, path: str) -> None:
    """Raise UnsupportedValueError for a value that cannot be a mapping key or a set element."""
    if type(key) in (tuple, frozenset):
        for item in key:  # type: ignore[attr-defined]
            check_key(item, path)
    elif type(key) not in _KEYS and not isinstance(key, np.generic):
        _refuse(key, path, f"a key of type {_class_name(type(key))}")


def _class_name(cls: type) -> str:
    module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return module + cls.__qualname__


def _refuse(value: object, path: str, what: str | None = None) -> NoReturn:
    hint = next((_HINTS[cls] for cls in type(value).__mro__ if cls in _HINTS), None)
    remedy = _REMEDY if hint is None else _REMEDY.replace("getter", f"getter ({hint})", 1)
    if what is None:
        what = f"a value of type {_class_name(type(value))}"
    raise UnsupportedValueError(path, f"{what} cannot be stored without pickle", remedy)
