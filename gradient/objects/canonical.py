"""Canonical JSON: the byte form of trees and commits.

Sorted keys, no blanks, UTF-8, only necessary escapes. Decoding re-encodes and compares. So a value
has one byte form, and two parsers cannot disagree about the hashed bytes.

Numbers that JSON cannot represent exactly are one-key objects: an integer beyond 53 bits is
``{"int": "-0x1f…"}``, a float that is not finite is ``{"float": "<16 hex digits, big-endian>"}``.
Finite floats are written by ``repr``, which is exact (including ``-0.0``).
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Final, TypeAlias

from gradient.errors import MalformedObjectError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_BYTES = 64 << 20
"""The limit for trees and commits, on reading and on writing."""

MAX_DEPTH = 100
"""The limit for nesting, on reading and on writing."""

_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
_SAFE_INT = 1 << 53
_MAX_INT_BITS = 4096


def dumps(value: Json) -> bytes:
    """Encode to canonical bytes. Raises MalformedObjectError beyond the limits."""
    try:
        raw = _ENCODER.encode(value).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise MalformedObjectError(f"not representable as canonical JSON: {error}") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:  # otherwise it cannot be that deep
        _check_depth(value)
    if len(raw) > MAX_BYTES:
        raise MalformedObjectError(f"object of {len(raw)} bytes; the limit is {MAX_BYTES}")
    return raw


def loads(raw: bytes) -> Json:
    """Decode canonical bytes; raises MalformedObjectError for bytes in another form."""
    if len(raw) > MAX_BYTES:
        raise MalformedObjectError(f"object of {len(raw)} bytes; the limit is {MAX_BYTES}")
    try:
        value: Json = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedObjectError(f"not JSON: {error}") from None
    if dumps(value) != raw:
        raise MalformedObjectError("not in canonical form")
    return value


def pack_number(value: int | float) -> Json:
    """Return a JSON form that represents any int or float exactly."""
    if type(value) is int:
        if abs(value) < _SAFE_INT:
            return value
        if value.bit_length() > _MAX_INT_BITS:
            raise MalformedObjectError(f"integer of {value.bit_length()} bits")
        return {"int": hex(value)}
    if math.isfinite(value):
        return float(value)
    return {"float": struct.pack(">d", value).hex()}


def unpack_number(node: Json) -> int | float:
    """Invert `pack_number`; raises MalformedObjectError for other nodes."""
    if type(node) is float or (type(node) is int and abs(node) < _SAFE_INT):
        return node
    if type(node) is dict and len(node) == 1:
        ((tag, text),) = node.items()
        if type(text) is str:
            try:
                if tag == "int" and len(text) <= _MAX_INT_BITS // 4 + 3:
                    number = int(text, 16)
                    if hex(number) == text and abs(number) >= _SAFE_INT:
                        return number
                if tag == "float":
                    (value,) = struct.unpack(">d", bytes.fromhex(text))
                    if not math.isfinite(value) and struct.pack(">d", value).hex() == text:
                        return float(value)
            except (ValueError, struct.error):
                pass
    raise MalformedObjectError(f"not a number: {node!r:.80}")


def _check_depth(value: Json) -> None:
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH - 1):
        if not level:
            return
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
    if any(level):
        raise MalformedObjectError(f"nested deeper than {MAX_DEPTH} levels")
