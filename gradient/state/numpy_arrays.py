"""NumPy arrays and scalars as bytes, and the stored names of their element types."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from gradient.errors import MalformedObjectError
from gradient.objects.canonical import Json

_KINDS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
_TIME = r"[mM]8(\[[1-9]?[0-9]{0,8}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
_DTYPE = re.compile(rf"[<>|](?:{'|'.join(_KINDS)}|[US][1-9][0-9]{{0,5}}|{_TIME})")
"""The element types that can be stored, as ``numpy.dtype.str``. Objects cannot."""


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """Return the stored name of a dtype, including byte order; None if it cannot be stored."""
    return dtype.str if _DTYPE.fullmatch(dtype.str) and dtype.names is None else None


def is_exact(value: Any) -> bool:
    """Return whether the value can be rebuilt from its bytes (NumPy strips NULs from strings)."""
    if type(value) is np.ndarray:
        return True
    back = np.frombuffer(value.tobytes(), value.dtype)[0]
    return type(back) is type(value) and bool(back.tobytes() == value.tobytes())


def describe(array: np.ndarray[Any, Any], name: str) -> dict[str, Json]:
    """Describe an array: its element type, shape, and order of dimensions in `memory`."""
    node: dict[str, Json] = {"dtype": name, "shape": list(array.shape)}
    if _is_fortran(array):
        node["order"] = "F"
    return node


def width(dtype: np.dtype[Any]) -> int:
    """Return the bytes of each number in an element: 1, 2, 4 or 8.

    A complex element has two numbers; a text element has one for each character.
    """
    if dtype.kind == "c":
        return dtype.itemsize // 2
    return {"U": 4, "S": 1}.get(dtype.kind, dtype.itemsize)


def memory(array: np.ndarray[Any, Any]) -> memoryview:
    """Return the bytes of an array, without a copy if they are in C or Fortran order."""
    if array.nbytes == 0:
        return memoryview(b"")
    flat = np.ascontiguousarray(array.T if _is_fortran(array) else array).reshape(-1)
    view: memoryview = flat.view(np.uint8).data
    return view


def build(node: dict[str, Json], data: bytes | bytearray) -> np.ndarray[Any, Any]:
    """Return the array that `describe` described, writable and in memory of its own."""
    dtype, shape, order = _parse(node.get("dtype")), node.get("shape"), node.get("order", "C")
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise MalformedObjectError(f"not an array's shape: {shape!r:.80}")
    sizes: list[int] = [int(n) for n in shape]  # type: ignore[arg-type]
    try:
        flat = np.frombuffer(data if type(data) is bytearray else bytearray(data), dtype)
        array = flat.reshape(sizes, order="F" if order == "F" else "C")
    except (ValueError, OverflowError) as error:
        raise MalformedObjectError(f"an array of {len(data)} bytes: {error}") from None
    if describe(array, dtype.str) != node:
        raise MalformedObjectError(f"not an array: {node!r:.80}")
    return array


def scalar(name: Json, data: bytes) -> Any:
    """Return a NumPy scalar from its bytes."""
    dtype = _parse(name)
    if len(data) != dtype.itemsize:
        raise MalformedObjectError(f"a NumPy {name} of {len(data)} bytes")
    return np.frombuffer(data, dtype)[0]


def _is_fortran(array: np.ndarray[Any, Any]) -> bool:
    return array.size > 0 and array.flags.f_contiguous and not array.flags.c_contiguous


def _parse(name: Json) -> np.dtype[Any]:
    try:
        if type(name) is str and _DTYPE.fullmatch(name):
            dtype = np.dtype(name)
            if dtype.str == name:
                return dtype
    except (TypeError, ValueError):
        pass
    raise MalformedObjectError(f"not an array's dtype: {name!r:.80}")
