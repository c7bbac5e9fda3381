"""Splitting a chunk into byte planes, and joining them.

Each element is read as an unsigned little-endian integer. Its top nine bits may be rotated left by
one, so that an 8-bit exponent fills the top byte and the sign moves below it
(docs/decisions/001). The integer is then split into spans of 1, 2, 4 or 8 bytes. The bytes of all
elements in one span form a stream, which is coded separately. Noise (the low bytes of a mantissa)
is one wide stream that is stored raw.

In numpy, halving words (casting to the low half, shifting for the high half) is several times
faster than copying with a stride. So both directions split or join halves recursively.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from gradient.codec import stream
from gradient.codec.elements import WIDTHS, words
from gradient.codec.plane_survey import PLAIN, ROTATED
from gradient.codec.scratch_buffers import SCRATCH
from gradient.codec.stream import CONSTANT, NOISE, RAW
from gradient.errors import MalformedObjectError

if TYPE_CHECKING:
    from gradient.codec.elements import Words
    from gradient.codec.mode import Mode
    from gradient.codec.plane_survey import Survey

_HEAD: Final = struct.Struct("<BB")
_STREAM: Final = struct.Struct("<BBI")


class CodedPlanes(NamedTuple):
    """The payload of one chunk."""

    parts: list[bytes | memoryview]
    """The header, then each stream."""
    seen: Survey
    """The survey of the chunk, with the streams' local coding added."""


def encode(elements: Words, surveys: Sequence[Survey], *, mode: Mode) -> list[CodedPlanes]:
    """Encode consecutive chunks of the same length, one for each survey.

    The caller owns the parts of the payloads. All surveys must have the same transform and methods.
    With `ROTATED`, the top plane must be neither noise nor constant.
    """
    seen = surveys[0]
    methods = seen.methods(NOISE[mode])
    spans = _spans(methods)
    owned = [methods[offset] == RAW for offset, _ in spans]
    heads = [_HEAD.pack(elements.itemsize, seen.transform)] * len(surveys)
    parts: list[list[bytes | memoryview]] = [[] for _ in surveys]
    local: list[list[int]] = [[] for _ in surveys]
    streams = _split(elements, spans, owned, rotated=seen.transform == ROTATED)
    for (offset, span), together in zip(spans, streams, strict=True):
        for number, part in enumerate(together.reshape(len(surveys), -1)):
            packed = stream.pack(part, surveys[number].statistics(offset), mode)
            heads[number] += _STREAM.pack(span, packed.method, len(packed.stored))
            parts[number].append(packed.stored)
            if packed.local:
                local[number].append(offset)
    return [
        CodedPlanes([head, *stored], seen.coded(uneven))
        for head, stored, seen, uneven in zip(heads, parts, surveys, local, strict=True)
    ]


def decode_into(payload: memoryview, out: memoryview) -> Words:
    """Decode a payload into `out` and return `out` as words of the payload's width.

    Raises MalformedObjectError if the payload does not hold exactly the streams of `out`.
    """
    if len(payload) < _HEAD.size:
        raise MalformedObjectError("a planes payload has no header")
    width, transform = _HEAD.unpack_from(payload)
    if width not in WIDTHS or len(out) == 0 or len(out) % width:
        raise MalformedObjectError(f"{len(out)} bytes cannot be planes of width {width}")
    if transform not in (PLAIN, ROTATED):
        raise MalformedObjectError(f"unknown transform {transform}")
    streams = _streams(payload, width, len(out) // width)
    if transform == ROTATED and (width == 1 or streams[-1].itemsize != 1):
        raise MalformedObjectError("rotated elements need a top stream of one byte each")
    elements = words(out, width)
    _join(streams, elements, rotated=transform == ROTATED)
    return elements


@cache
def _spans(methods: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Split an element into (offset, bytes); adjacent noise or constant planes form one span."""
    spans: list[tuple[int, int]] = []
    offset = 0
    while offset < len(methods):
        span = next(
            size
            for size in reversed(WIDTHS)
            if offset % size == 0
            and offset + size <= len(methods)
            and (size == 1 or set(methods[offset : offset + size]) in ({RAW}, {CONSTANT}))
        )
        spans.append((offset, span))
        offset += span
    return tuple(spans)


def _split(
    elements: Words, spans: Sequence[tuple[int, int]], owned: list[bool], *, rotated: bool
) -> Iterator[Words]:
    """Yield the stream of each span. A stream that is not `owned` is valid until the next one."""
    width = elements.itemsize
    if len(spans) == 1:
        yield elements.copy() if owned[0] else elements
        return
    if width == 2 and rotated:
        yield from _split_float(elements, owned)
        return
    half = width // 2
    cut = next(i for i, (offset, _) in enumerate(spans) if offset - spans[0][0] == half)
    for part, keep, shift in (
        (spans[:cut], owned[:cut], 0),
        (spans[cut:], owned[cut:], half * 8),
    ):
        fresh = len(part) == 1 and keep[0]
        out = _take(f"half{half}", half, elements.size, fresh=fresh)
        if shift:
            wide = _take(f"shift{width}", width, elements.size, fresh=False)
            np.copyto(out, np.right_shift(elements, shift, out=wide), casting="unsafe")
        else:
            np.copyto(out, elements, casting="unsafe")
        if len(part) == 1:
            yield out
        else:
            yield from _split(out, part, keep, rotated=rotated and bool(shift))


def _split_float(tops: Words, owned: list[bool]) -> Iterator[Words]:
    """Yield the sign with seven bits of mantissa, then the exponent, of the top 16 bits."""
    wide = _take("shift2", 2, tops.size, fresh=False)
    sign = SCRATCH.take("sign", tops.size)
    np.greater_equal(tops, 0x8000, out=sign.view(np.bool_))
    np.multiply(sign, 128, out=sign)
    out = _take("half1", 1, tops.size, fresh=owned[0])
    np.copyto(out, tops, casting="unsafe")
    np.bitwise_and(out, 127, out=out)
    np.bitwise_or(out, sign, out=out)
    yield out
    out = _take("half1", 1, tops.size, fresh=owned[1])
    np.right_shift(tops, 7, out=wide)
    np.copyto(out, wide, casting="unsafe")
    yield out


def _take(name: str, width: int, count: int, *, fresh: bool) -> Words:
    memory = np.empty(width * count, np.uint8) if fresh else SCRATCH.take(name, width * count)
    return memory.view(f"<u{width}")


def _streams(payload: memoryview, width: int, count: int) -> list[Words]:
    """Return the stream of each span, lowest first; a constant stream has a single element."""
    table: list[tuple[int, int, int]] = []
    cursor, covered = _HEAD.size, 0
    while covered < width:
        if len(payload) < cursor + _STREAM.size:
            raise MalformedObjectError("a planes payload ends within its header")
        span, method, size = _STREAM.unpack_from(payload, cursor)
        if span not in WIDTHS or covered % span or covered + span > width:
            raise MalformedObjectError(f"a stream of {span} bytes cannot begin at byte {covered}")
        if not stream.fits(method, size, span, count):
            raise MalformedObjectError(f"a stream has method {method} and {size} bytes")
        table.append((span, method, size))
        cursor += _STREAM.size
        covered += span
    if cursor + sum(size for _, _, size in table) != len(payload):
        raise MalformedObjectError("a planes payload is not as long as its streams")
    streams: list[Words] = []
    for span, method, size in table:
        stored = payload[cursor : cursor + size]
        streams.append(stream.unpack(method, stored, span, count, place=len(streams)))
        cursor += size
    return streams


def _join(streams: list[Words], out: Words, *, rotated: bool) -> None:
    """Join streams into the words of `out`; the inverse of `_split`."""
    width = out.itemsize
    if len(streams) == 1:
        np.copyto(out, streams[0])
        return
    if width == 2 and rotated:
        _join_float(streams[0], streams[1], out)
        return
    half = width // 2
    cut, covered = 0, 0
    while covered < half:
        covered += streams[cut].itemsize
        cut += 1
    high = _side(streams[cut:], half, out.size, rotated=rotated)
    np.copyto(out, high)
    np.left_shift(out, half * 8, out=out)
    low = _side(streams[:cut], half, out.size, rotated=False)
    np.bitwise_or(out, low, out=out)


def _join_float(mantissa: Words, exponent: Words, out: Words) -> None:
    # Widening as signed integers copies the sign to all upper bits; the mask clears the bits of
    # the exponent.
    wide = _take("shift2", 2, out.size, fresh=False)
    np.copyto(wide.view("<i2"), mantissa.view("i1"))
    np.bitwise_and(wide, 0x807F, out=wide)
    np.copyto(out, exponent)
    np.multiply(out, 128, out=out)  # Faster than a shift, which numpy vectorises less well.
    np.bitwise_or(out, wide, out=out)


def _side(streams: list[Words], width: int, count: int, *, rotated: bool) -> Words:
    if len(streams) == 1:
        return streams[0]
    out = _take(f"half{width}", width, count, fresh=False)
    _join(streams, out, rotated=rotated)
    return out
