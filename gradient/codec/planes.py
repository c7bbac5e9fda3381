"""A chunk taken apart into streams of like bytes, and put together again.

An element is read as one unsigned little-endian integer. Its top nine bits may be rotated left by
one, so that the sign leaves the top byte and an 8-bit exponent fills it (docs/decisions/001). The
integer is then cut into spans of 1, 2, 4 or 8 bytes; what all elements have in one span is a
stream, coded on its own. Noise (the low bytes of a mantissa) is one wide stream stored raw.

Halving (casting a word to its low half, shifting for its high half) is several times faster in
numpy than copying with a stride, so both directions are trees of halves.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gradient.codec import entropy, seven, sparse
from gradient.codec.entropy import Coder
from gradient.codec.mode import Mode
from gradient.codec.scratch import SCRATCH
from gradient.errors import MalformedObjectError

if TYPE_CHECKING:
    from typing_extensions import Buffer

Words = npt.NDArray[np.unsignedinteger[Any]]

WIDTHS: Final = (1, 2, 4, 8)
"""Bytes of an element, and of a span."""

PLAIN: Final = 0
ROTATED: Final = 1

RAW: Final = 0
ZSTD: Final = 1
CONSTANT: Final = 2
SEVEN: Final = 3
SPARSE: Final = 4

NOISE: Final = {Mode.AUTO: 7.75, Mode.AGGRESSIVE: 7.96}
"""Bits per byte from which on a stream is stored as it is."""

_REPEATS: Final = 1.0
"""Bits per byte below which Huffman codes, a bit per byte at least, lose against a search."""

_COMMON: Final = 0.65
"""The share of one value above which Huffman codes waste a part of a bit on it."""

_SEVEN: Final = 6.85
"""Bits per byte above which seven bits without their distribution are as good as with it."""

_HEAD: Final = struct.Struct("<BB")
_STREAM: Final = struct.Struct("<BBI")


@dataclass(frozen=True, slots=True)
class Survey:
    """What a sample says about a chunk under one transform."""

    transform: int
    entropies: tuple[float, ...]
    """Bits per byte of each byte plane, the lowest first."""
    common: tuple[int, ...]
    """The most frequent byte of each."""
    share: tuple[float, ...]
    """How many of the bytes are that one."""

    def bits(self, noise: float) -> float:
        """Return the estimated bits per element."""
        return sum(8.0 if bits > noise else bits for bits in self.entropies)

    def methods(self, noise: float) -> tuple[int, ...]:
        """Return how each byte plane is to be coded: `RAW`, `CONSTANT`, or `ZSTD` and its like."""
        return tuple(
            RAW if bits > noise else CONSTANT if bits == 0 else ZSTD for bits in self.entropies
        )


def words(data: Buffer, width: int) -> Words:
    """View a buffer as little-endian unsigned integers of `width` bytes."""
    elements: Words = np.frombuffer(memoryview(data), f"<u{width}")
    return elements


def survey(sample: Words, transform: int) -> Survey:
    """Estimate what each byte plane of a chunk holds from a sample of its elements."""
    width = sample.itemsize
    if transform == ROTATED:
        sample = sample.copy()
        top = sample.view("<u2")[width // 2 - 1 :: width // 2]
        top[:] = (top & 0x7F80) << 1 | (top & 0x8000) >> 8 | top & 0x7F
    counts = entropy.histograms(sample.view(np.uint8).reshape(-1, width))
    shares = counts.max(axis=1) / len(sample)
    common = tuple(counts.argmax(axis=1).tolist())
    return Survey(transform, entropy.entropies(counts), common, tuple(shares.tolist()))


def encode(
    elements: Words, surveys: Sequence[Survey], *, mode: Mode
) -> list[list[bytes | memoryview]]:
    """Encode chunks of one length, which stand one after the other, each with its survey.

    Returns each payload's parts: a header, then each stream. They are the caller's to keep. All
    surveys must have the same transform and methods; `ROTATED` ones a top plane that is neither
    noise nor constant.
    """
    seen = surveys[0]
    methods = seen.methods(NOISE[mode])
    spans = _spans(methods)
    owned = [methods[offset] == RAW for offset, _ in spans]
    heads = [_HEAD.pack(elements.itemsize, seen.transform)] * len(surveys)
    parts: list[list[bytes | memoryview]] = [[] for _ in surveys]
    streams = _split(elements, spans, owned, rotated=seen.transform == ROTATED)
    for (offset, span), stream in zip(spans, streams, strict=True):
        for number, part in enumerate(stream.reshape(len(surveys), -1)):
            method, coded = _pack(part, surveys[number], offset, mode)
            heads[number] += _STREAM.pack(span, method, len(coded))
            parts[number].append(coded)
    return [[head, *coded] for head, coded in zip(heads, parts, strict=True)]


def decode_into(payload: memoryview, out: memoryview) -> Words:
    """Fill `out` from a payload and return it as words of the width that the payload names.

    Raises MalformedObjectError if the payload is anything but the streams of `len(out)` bytes.
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
    """Cut an element into (offset, bytes); neighbours of noise, or of one value, stay together."""
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
    """Yield the stream of each span; those not `owned` live until the next one is asked for."""
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
    """Yield sign and seven bits of mantissa, then the exponent, of floats' top 16 bits."""
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


def _pack(stream: Words, seen: Survey, offset: int, mode: Mode) -> tuple[int, bytes | memoryview]:
    """Code the stream that begins with a plane as a (method, bytes) that nothing else refers to."""
    bits = seen.entropies[offset]
    if bits > NOISE[mode]:
        return RAW, stream.view(np.uint8).data
    if bits == 0 and is_constant(stream):
        return CONSTANT, stream[:1].tobytes()
    octets = stream.view(np.uint8).data
    if mode is Mode.AUTO and bits > _SEVEN and stream.itemsize == 1 and stream.max() < 128:
        return SEVEN, seven.pack(stream.view(np.uint8)).data
    rare = None
    if seen.share[offset] > _COMMON and stream.itemsize == 1:
        rare = sparse.pack(stream.view(np.uint8), seen.common[offset])
    if mode is Mode.AGGRESSIVE:
        coded = min((entropy.compress(octets, coder) for coder in Coder), key=len)
    elif rare is None:
        coded = entropy.compress(octets, Coder.REPEATS if bits < _REPEATS else Coder.ENTROPY)
    if rare is not None and (mode is Mode.AUTO or len(rare) < len(coded)):
        return SPARSE, rare
    return (ZSTD, coded) if len(coded) < stream.nbytes else (RAW, octets.tobytes())


def is_constant(elements: Words) -> bool:
    """Return whether all elements (at least one) are equal."""
    same = SCRATCH.take("same", elements.size).view(np.bool_)
    return bool(np.equal(elements, elements[0], out=same).all())


def _streams(payload: memoryview, width: int, count: int) -> list[Words]:
    """Return each span's stream, lowest first; a constant one has a single element."""
    table: list[tuple[int, int, int]] = []
    cursor, covered = _HEAD.size, 0
    while covered < width:
        if len(payload) < cursor + _STREAM.size:
            raise MalformedObjectError("a planes payload ends within its header")
        span, method, size = _STREAM.unpack_from(payload, cursor)
        if span not in WIDTHS or covered % span or covered + span > width:
            raise MalformedObjectError(f"a stream of {span} bytes cannot begin at byte {covered}")
        expected = {RAW: span * count, CONSTANT: span, ZSTD: size}
        if span == 1:
            expected |= {SEVEN: seven.packed_size(count), SPARSE: size}
        if expected.get(method) != size:
            raise MalformedObjectError(f"a stream has method {method} and {size} bytes")
        table.append((span, method, size))
        cursor += _STREAM.size
        covered += span
    if cursor + sum(size for _, _, size in table) != len(payload):
        raise MalformedObjectError("a planes payload is not as long as its streams")
    streams: list[Words] = []
    for span, method, size in table:
        stored = payload[cursor : cursor + size]
        if method == ZSTD:
            streams.append(words(entropy.decompress(stored, span * count), span))
        elif method == SPARSE:
            streams.append(sparse.unpack(stored, count))
        elif method == SEVEN:
            room = SCRATCH.take(f"seven{len(streams)}", size // 7 * 8)
            streams.append(seven.unpack(words(stored, 1), room)[:count])
        else:
            streams.append(words(stored, span))
        cursor += size
    return streams


def _join(streams: list[Words], out: Words, *, rotated: bool) -> None:
    """Put streams together into the words of `out`, the exact reverse of `_split`."""
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
    # Read as signed and widened, the sign comes out on top by itself, and also where the exponent
    # belongs: the mask clears it there.
    wide = _take("shift2", 2, out.size, fresh=False)
    np.copyto(wide.view("<i2"), mantissa.view("i1"))
    np.bitwise_and(wide, 0x807F, out=wide)
    np.copyto(out, exponent)
    np.multiply(out, 128, out=out)  # Quicker than a shift, which numpy does not vectorise as well.
    np.bitwise_or(out, wide, out=out)


def _side(streams: list[Words], width: int, count: int, *, rotated: bool) -> Words:
    if len(streams) == 1:
        return streams[0]
    out = _take(f"half{width}", width, count, fresh=False)
    _join(streams, out, rotated=rotated)
    return out
