"""Bytes most of which are equal: where the others are, and what they are.

A Huffman code spends at least a bit on a byte, and a search for repetitions finds none worth its
time among places that are anywhere. The distance from one of the others to the next fits a byte as
a rule, and its distribution is what Huffman codes are good at: together within a hundredth of the
entropy, and several times faster, for whatever is equal is never looked at again.

    common value | others | length of the distances | two parts: method, stored length | the parts
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from gradient.codec import entropy
from gradient.codec.entropy import Coder
from gradient.errors import MalformedObjectError

if TYPE_CHECKING:
    from gradient.codec.scratch_buffers import Bytes

_HEAD: Final = struct.Struct("<BIIBIBI")
_RAW: Final = 0
_ZSTD: Final = 1

_SKIP: Final = 255
"""A distance byte that stands for so many values without another one after them."""

_MAX_OTHERS: Final = 0.5
"""The share of others from which on this is not worth while."""

_ROWS_SHARE: Final = 0.65
"""The share of zero distances from which on others come in rows, which repeat themselves."""


def pack(values: Bytes, common: int) -> bytes | None:
    """Return the stored form of bytes that mostly equal `common`; None where too many do not."""
    places = np.flatnonzero(values != common)
    if places.size > _MAX_OTHERS * values.size:
        return None
    distances = _distances(places)
    near = distances.size - np.count_nonzero(distances)
    coder = Coder.REPEATS if near > _ROWS_SHARE * distances.size else Coder.ENTROPY
    how, where = _code(distances, coder)
    method, what = _code(values[places], Coder.ENTROPY)
    sizes = how, len(where), method, len(what)
    return _HEAD.pack(common, places.size, distances.size, *sizes) + where + what


def unpack(stored: memoryview, count: int) -> Bytes:
    """Return the `count` bytes that `pack` was given.

    Raises MalformedObjectError for anything that does not say exactly so many; memory and time are
    bounded by `count`.
    """
    if len(stored) < _HEAD.size:
        raise MalformedObjectError("a sparse stream has no header")
    common, others, length, how, first, method, second = _HEAD.unpack_from(stored)
    if not others <= length <= others + count // _SKIP or others > count:
        raise MalformedObjectError(f"a sparse stream of {count} bytes has {others} others")
    if _HEAD.size + first + second != len(stored):
        raise MalformedObjectError("a sparse stream is not as long as its parts")
    distances = _part(stored[_HEAD.size :][:first], how, length)
    what = _part(stored[_HEAD.size + first :], method, others)
    values = np.full(count, common, np.uint8)
    if length:
        ends = distances != _SKIP
        places = np.cumsum(distances + ends.astype(_sum_dtype(length)))
        if int(places[-1]) > count or not ends[-1] or np.count_nonzero(ends) != others:
            raise MalformedObjectError("the distances of a sparse stream do not fit it")
        values[places[ends] - 1] = what
    return values


def _distances(places: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Bytes:
    """Return for each place how many values lie between it and the one before, in bytes."""
    gaps = places.copy()
    gaps[1:] -= places[:-1] + 1
    if gaps.max(initial=0) < _SKIP:
        return gaps.astype(np.uint8)
    skips = gaps // _SKIP
    ends = np.cumsum(skips + 1)
    distances = np.full(int(ends[-1]), _SKIP, np.uint8)
    distances[ends - 1] = gaps % _SKIP
    return distances


def _sum_dtype(length: int) -> type[np.uint32 | np.uint64]:
    """Return what holds the sum of so many distances: the narrower, the faster."""
    return np.uint32 if length <= 1 << 24 else np.uint64


def _code(values: Bytes, coder: Coder) -> tuple[int, bytes]:
    coded = entropy.compress(values.data, coder) if values.size else b""
    return (_ZSTD, coded) if len(coded) < values.size else (_RAW, values.tobytes())


def _part(stored: memoryview, method: int, count: int) -> Bytes:
    if method == _ZSTD:
        return np.frombuffer(entropy.decompress(stored, count), np.uint8)
    if method != _RAW or len(stored) != count:
        raise MalformedObjectError(f"a part of a sparse stream has method {method}")
    return np.frombuffer(stored, np.uint8)
