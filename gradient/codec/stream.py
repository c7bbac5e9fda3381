"""One stream of like bytes, by the method that suits it, and back."""

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
"""Bits per byte from which on a stream is stored as it is."""

_REPEATS_BITS: Final = 1.0
"""Bits per byte below which Huffman codes, a bit per byte at least, lose against a search."""

_SPARSE_SHARE: Final = 0.65
"""The share of one value above which Huffman codes waste a part of a bit on it."""

_SEVEN_BITS: Final = 6.85
"""Bits per byte above which seven bits without their distribution are as good as with it."""

_LOCAL_RATIO: Final = 0.99
"""What codes made anew for each part may cost of those made once: they take longer to read."""

_LOCAL_BYTES: Final = 1 << 14
"""Bytes of such a part."""

_TRIAL_BYTES: Final = 1 << 16
"""Bytes on which the two are compared."""


class StreamStatistics(NamedTuple):
    """What is known about a stream before it is coded."""

    bits: float
    """Per byte of its first plane; zero for a sample of one value."""
    common: int
    """The most frequent byte."""
    share: float
    """How many are that one."""
    local: bool | None
    """Whether it is not everywhere alike; None: not known."""


class PackedStream(NamedTuple):
    """A stream, coded."""

    method: int
    stored: bytes | memoryview
    """Bytes that nothing else refers to."""
    local: bool = False
    """Whether it has codes made anew for each part."""


def pack(stream: Words, statistics: StreamStatistics, mode: Mode) -> PackedStream:
    """Code a stream; one of noise must be the caller's own memory, and is returned as it is."""
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
    """Return whether `count` elements of `span` bytes can be `stored` bytes of a method."""
    expected = {RAW: span * count, CONSTANT: span, ZSTD: stored}
    if span == 1:
        expected |= {SEVEN: seven_bit.packed_size(count), SPARSE: stored}
    return expected.get(method) == stored


def unpack(method: int, stored: memoryview, span: int, count: int, *, place: int) -> Words:
    """Return the elements of a stream, in the order of `place` its own memory; see `fits`.

    A constant one has a single element. Raises MalformedObjectError for anything that `pack` does
    not make of so many.
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
