"""Coding one stream of a byte plane with the best method, and decoding it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from gradient.codec import entropy, seven_bit, sparse
from gradient.codec.elements import is_constant, words
from gradient.codec.entropy import Coder
from gradient.codec.mode import Mode
from gradient.codec.scratch_buffers import SCRATCH

if TYPE_CHECKING:
    from gradient.codec.elements import Words

RAW: Final = 0
ZSTD: Final = 1
CONSTANT: Final = 2
SEVEN: Final = 3
SPARSE: Final = 4

NOISE: Final = {Mode.AUTO: 7.75, Mode.AGGRESSIVE: 7.96}
"""The entropy, in bits per byte, above which a stream is stored raw."""

_REPEATS_BITS: Final = 1.0
"""The entropy, in bits per byte, below which a search for matches beats Huffman coding."""

_SPARSE_SHARE: Final = 0.65
"""The fraction of the common byte above which Huffman coding wastes part of a bit on it."""

_SEVEN_BITS: Final = 6.85
"""The entropy, in bits per byte, above which seven-bit packing equals entropy coding."""

_LOCAL_RATIO: Final = 0.99
"""The largest size ratio at which local tables are used: they take longer to decode."""

_LOCAL_BYTES: Final = 1 << 14
"""The length coded with one local table, in bytes."""

_TRIAL_BYTES: Final = 1 << 16
"""The number of bytes on which both coders are compared."""


class StreamStatistics(NamedTuple):
    """The estimated statistics of a stream before it is coded."""

    bits: float
    """The entropy of its first plane in bits per byte; zero for a sample of one value."""
    common: int
    """The most frequent byte."""
    share: float
    """The fraction of bytes that equal it."""
    local: bool | None
    """True if the distribution varies along the stream; None if unknown."""


class PackedStream(NamedTuple):
    """A coded stream."""

    method: int
    stored: bytes | memoryview
    """The coded bytes, which belong to this object."""
    local: bool = False
    """True if it was coded with local tables."""


def pack(stream: Words, statistics: StreamStatistics, mode: Mode) -> PackedStream:
    """Code a stream. Noise is returned uncopied, so the caller must own its memory."""
    if statistics.bits > NOISE[mode]:
        return PackedStream(RAW, stream.view(np.uint8).data)
    if statistics.bits == 0 and is_constant(stream):
        return PackedStream(CONSTANT, stream[:1].tobytes())
    octets = stream.view(np.uint8).data
    if (
        mode is Mode.AUTO
        and statistics.bits > _SEVEN_BITS
        and stream.itemsize == 1
        and stream.max() < 128
    ):
        return PackedStream(SEVEN, seven_bit.pack(stream.view(np.uint8)).data)
    rare = None
    if statistics.share > _SPARSE_SHARE and stream.itemsize == 1:
        rare = sparse.pack(stream.view(np.uint8), statistics.common)
    if rare is not None and mode is Mode.AUTO:
        return PackedStream(SPARSE, rare)
    coders = Coder if mode is Mode.AGGRESSIVE else (_coder(octets, statistics),)
    coder, coded = min(
        ((each, entropy.compress(octets, each)) for each in coders), key=lambda pair: len(pair[1])
    )
    if rare is not None and len(rare) < len(coded):
        return PackedStream(SPARSE, rare)
    if len(coded) >= stream.nbytes:
        return PackedStream(RAW, octets.tobytes())
    return PackedStream(ZSTD, coded, coder is Coder.LOCAL)


def fits(method: int, stored: int, span: int, count: int) -> bool:
    """Return whether a method can store `count` elements of `span` bytes in `stored` bytes."""
    expected = {RAW: span * count, CONSTANT: span, ZSTD: stored}
    if span == 1:
        expected |= {SEVEN: seven_bit.packed_size(count), SPARSE: stored}
    return expected.get(method) == stored


def unpack(method: int, stored: memoryview, span: int, count: int, *, place: int) -> Words:
    """Return the elements of a stream, whose method and size must pass `fits`.

    Streams with different `place` use different scratch memory. A constant stream has a single
    element. Raises MalformedObjectError if `pack` does not write such bytes for `count` elements.
    """
    if method == ZSTD:
        return words(entropy.decompress(stored, span * count), span)
    if method == SPARSE:
        return sparse.unpack(stored, count)
    if method == SEVEN:
        room = SCRATCH.take(f"seven{place}", len(stored) // 7 * 8)
        return seven_bit.unpack(words(stored, 1), room)[:count]
    return words(stored, span)


def _coder(octets: memoryview, statistics: StreamStatistics) -> Coder:
    if statistics.bits < _REPEATS_BITS:
        return Coder.REPEATS
    if statistics.local is not None:
        return Coder.LOCAL if statistics.local else Coder.ENTROPY
    if len(octets) <= _LOCAL_BYTES:
        return Coder.ENTROPY
    coders = Coder.ENTROPY, Coder.LOCAL
    return entropy.try_coders(octets, coders, nbytes=_TRIAL_BYTES, worth=_LOCAL_RATIO)
