"""One chunk as the payload of a frame, and back.

The payload says by itself how its streams were split; what names it (which object, which base,
which of these codecs) is the frame's header, and that is the pack's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from gradient.codec import delta, entropy, planes
from gradient.codec.entropy import Coder
from gradient.codec.mode import Mode
from gradient.codec.scratch import SCRATCH
from gradient.errors import MalformedObjectError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from gradient.codec.planes import Survey, Words


class Codec(IntEnum):
    """What the payload of a frame is. The numbers are stored; they are never used again."""

    RAW = 0
    """The bytes themselves."""
    ZSTD = 1
    """One zstd frame."""
    PLANES = 2
    """Streams of like bytes of each element, each coded on its own."""
    DELTA = 3
    """The planes of the integer difference from a base of the same length."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One payload, not yet written."""

    codec: Codec
    """How to read it."""
    parts: tuple[Buffer, ...]
    """Buffers to write one after the other. For `RAW` that is the caller's own buffer, uncopied;
    all others are owned and never written to again."""
    size: int
    """Bytes of all parts together; never more than the raw bytes."""


_SMALLEST: Final = 64
"""Bytes below which a payload's own header eats what coding saves."""

_WORTH: Final = 0.97
"""What a delta may cost of what the chunk costs alone: it reads a second chunk and pins it."""

_REHEARSAL: Final = 1 << 15
"""Bytes on which two settings are compared before a longer run of bytes is coded with one."""


def encode(raw: Buffer, *, width: int, mode: Mode, base: Buffer | None = None) -> Encoded:
    """Encode `raw`, elements of `width` bytes each, in the smallest form that `mode` looks for.

    `base` is another chunk of the same length that the decoder will be given again; it is used only
    where it pays (then the codec is `DELTA`). Raises ValueError if its length differs or `width`
    is none of 1, 2, 4, 8.
    """
    view = memoryview(raw).cast("B")
    if width not in planes.WIDTHS:
        raise ValueError(f"width must be one of {planes.WIDTHS}, not {width}")
    if base is not None and memoryview(base).nbytes != len(view):
        raise ValueError(f"a base of {memoryview(base).nbytes} bytes for {len(view)} bytes")
    if mode is Mode.OFF or len(view) < _SMALLEST:
        return _raw(view)
    if len(view) % width:
        return _encode_bytes(view, mode)
    if width == 1 and base is None:
        return _encode_bytes(view, mode)
    return _encode_words(view, width, mode, base)


def decode_into(
    codec: int, payload: Buffer, out: memoryview, *, base: Buffer | None = None
) -> None:
    """Fill `out` with the bytes that were encoded; its length is all that is taken on trust.

    Time and memory are bounded by that length. Raises MalformedObjectError for a payload that does
    not decode to exactly `len(out)` bytes, or a base that is absent, superfluous or of another
    length; `out` may then be partly written. Whether the bytes are the right ones is for the caller
    to prove by their hash. `base` and `out` must not overlap.
    """
    data, target = memoryview(payload).cast("B"), memoryview(out).cast("B")
    if len(data) > len(target):
        raise MalformedObjectError(f"a payload of {len(data)} bytes for {len(target)} raw bytes")
    if base is not None:
        if codec != Codec.DELTA:
            raise MalformedObjectError(f"codec {codec} takes no base")
        _decode_delta(data, target, memoryview(base).cast("B"))
    elif codec == Codec.RAW:
        if len(data) != len(target):
            raise MalformedObjectError(f"{len(data)} raw bytes instead of {len(target)}")
        target[:] = data
    elif codec == Codec.ZSTD:
        target[:] = entropy.decompress(data, len(target))
    elif codec == Codec.PLANES:
        planes.decode_into(data, target)
    elif codec == Codec.DELTA:
        raise MalformedObjectError("a delta without its base")
    else:
        raise MalformedObjectError(f"unknown codec {codec}")


def _decode_delta(data: memoryview, target: memoryview, base: memoryview) -> None:
    if len(base) != len(target):
        raise MalformedObjectError(f"a base of {len(base)} bytes for {len(target)} raw bytes")
    differences = planes.decode_into(data, target)
    delta.restore(differences, planes.words(base, differences.itemsize))


def _raw(view: memoryview) -> Encoded:
    return Encoded(Codec.RAW, (view,), len(view))


def _smallest(view: memoryview, candidates: Iterable[Encoded]) -> Encoded:
    best = min(candidates, key=lambda encoded: encoded.size, default=None)
    return best if best is not None and best.size < len(view) else _raw(view)


def _encode_bytes(view: memoryview, mode: Mode) -> Encoded:
    """Encode text, and numbers of one byte."""
    octets = planes.words(view, 1)
    seen = planes.survey(_sample(octets), planes.PLAIN)
    if seen.entropies[0] > planes.NOISE[mode]:
        return _raw(view)
    if seen.entropies[0] == 0 and planes.is_constant(octets):
        return _smallest(view, [_planes(Codec.PLANES, octets, seen, mode)])
    coders = tuple(Coder) if mode is Mode.AGGRESSIVE else (_coder(view),)
    frames = [entropy.compress(view, coder) for coder in coders]
    return _smallest(view, [Encoded(Codec.ZSTD, (frame,), len(frame)) for frame in frames])


def _coder(view: memoryview) -> Coder:
    """Rehearse a long run of bytes: text repeats itself, fp8 weights do not."""
    if len(view) <= _REHEARSAL:
        return Coder.TEXT
    middle = len(view) // 2 - _REHEARSAL // 4
    part = view[middle : middle + _REHEARSAL // 2]
    sizes = {coder: len(entropy.compress(part, coder)) for coder in (Coder.ENTROPY, Coder.TEXT)}
    return Coder.TEXT if sizes[Coder.TEXT] < 0.97 * sizes[Coder.ENTROPY] else Coder.ENTROPY


def _encode_words(view: memoryview, width: int, mode: Mode, base: Buffer | None) -> Encoded:
    elements = planes.words(view, width)
    seen = _survey(_sample(elements), mode)
    alone = Codec.PLANES, elements, seen
    candidates = [alone]
    if base is not None:
        source = planes.words(base, width)
        step = _survey_delta(_sample(elements), _sample(source))
        if mode is Mode.AGGRESSIVE or _bits(step, mode) < _WORTH * _bits(seen, mode):
            difference = SCRATCH.take("delta", len(view)).view(elements.dtype)
            delta.difference(elements, source, difference)
            by_step = Codec.DELTA, difference, step
            candidates = [alone, by_step] if mode is Mode.AGGRESSIVE else [by_step]
    return _smallest(
        view,
        [
            _planes(codec, values, sampled, mode)
            for codec, values, sampled in candidates
            if _bits(sampled, mode) < 8 * width
        ],
    )


def _planes(codec: Codec, elements: Words, seen: Survey, mode: Mode) -> Encoded:
    parts = tuple(planes.encode(elements, seen, mode=mode))
    return Encoded(codec, parts, sum(memoryview(part).nbytes for part in parts))


def _survey(sample: Words, mode: Mode) -> Survey:
    """Survey rotated elements where their top plane has something to code, plain ones elsewhere."""
    if sample.itemsize > 1:
        seen = planes.survey(sample, planes.ROTATED)
        if 0 < seen.entropies[-1] <= planes.NOISE[mode]:
            return seen
    return planes.survey(sample, planes.PLAIN)


def _survey_delta(sample: Words, base: Words) -> Survey:
    difference = np.empty_like(sample)
    delta.difference(sample, base, difference)
    return planes.survey(difference, planes.PLAIN)


def _bits(seen: Survey, mode: Mode) -> float:
    return seen.bits(planes.NOISE[mode])


def _sample(elements: Words) -> Words:
    return np.concatenate([elements[run] for run in entropy.sample_indices(elements.size)])
