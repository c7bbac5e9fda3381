"""One chunk as the payload of a frame, and back.

The payload says by itself how its streams were split; what names it (which object, which base,
which of these codecs) is the frame's header, and that is the pack's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
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
class Plan:
    """What the samples of a chunk said: likely to hold for what is at its place at the next commit.

    A plan that does not fit any more costs bytes, never bits.
    """

    alone: Survey | None = None
    """Of the chunk itself; None: not asked."""
    step: Survey | None = None
    """Of its difference from a base; None: not asked."""
    leans: bool | None = None
    """Whether the difference is the better choice; None: not asked."""
    size: int = 0
    """What the payload weighed then."""


_UNASKED: Final = Plan()


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
    plan: Plan | None = None
    """For the chunk that comes after this one; None where it is to be asked anew."""


_SMALLEST: Final = 64
"""Bytes below which a payload's own header eats what coding saves."""

_WORTH: Final = 0.97
"""What a delta may cost of what the chunk costs alone: the estimate is a sample's."""

_SAVED: Final = 2048
"""Bytes that a delta must save: it pins a second chunk, which takes a tenth of a millisecond at
least to be read and proved, however short it is."""

_GROWN: Final = 1.1
"""How much larger a payload may come out than when its plan was made: a difference grows with each
step away from its base, which is no reason to ask anew."""

_REHEARSAL: Final = 1 << 15
"""Bytes on which two settings are compared before a longer run of bytes is coded with one."""


def encode(
    raw: Buffer, *, width: int, mode: Mode, base: Buffer | None = None, plan: Plan | None = None
) -> Encoded:
    """Encode `raw`, elements of `width` bytes each, in the smallest form that `mode` looks for.

    `base` is another chunk of the same length that the decoder will be given again; it is used only
    where it pays (then the codec is `DELTA`). With the `plan` of an earlier chunk of the same kind,
    `AUTO` takes no samples. Raises ValueError if its length differs or `width`
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
    return _encode_words(view, width, mode, base, plan)


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


def _encode_words(
    view: memoryview, width: int, mode: Mode, base: Buffer | None, plan: Plan | None
) -> Encoded:
    elements = planes.words(view, width)
    source = None if base is None else planes.words(base, width)
    known = plan if plan is not None and mode is Mode.AUTO and _fits(plan, width) else _UNASKED
    found = _ask(elements, source, known, mode)
    candidates: list[tuple[Codec, Words, Survey]] = []
    if source is not None and found.step is not None and (found.leans or mode is Mode.AGGRESSIVE):
        difference = SCRATCH.take("delta", len(view)).view(elements.dtype)
        delta.difference(elements, source, difference)
        candidates.append((Codec.DELTA, difference, found.step))
    if found.alone is not None and (not candidates or mode is Mode.AGGRESSIVE):
        candidates.append((Codec.PLANES, elements, found.alone))
    encoded = _smallest(
        view,
        [
            _planes(codec, values, sampled, mode)
            for codec, values, sampled in candidates
            if _bits(sampled, mode) < 8 * width
        ],
    )
    return replace(encoded, plan=_kept(found, known, encoded, based=source is not None))


def _fits(plan: Plan, width: int) -> bool:
    return all(seen is None or len(seen.entropies) == width for seen in (plan.alone, plan.step))


def _ask(elements: Words, source: Words | None, known: Plan, mode: Mode) -> Plan:
    """Take the samples that are needed beyond what is known."""
    if source is not None and known.leans is None:
        sample = _sample(elements)
        alone = _survey(sample, mode)
        step = _survey_delta(sample, _sample(source))
        return Plan(alone, step, _pays(elements, _bits(step, mode), _bits(alone, mode)))
    if known.alone is None:
        return replace(known, alone=_survey(_sample(elements), mode))
    return known


def _pays(elements: Words, step: float, alone: float) -> bool:
    """Tell by their bits per element whether the difference is to be preferred."""
    return step < _WORTH * alone and (alone - step) * elements.size >= 8 * _SAVED


def _kept(found: Plan, known: Plan, encoded: Encoded, *, based: bool) -> Plan | None:
    """Return the plan for next time: none where the payload has outgrown it."""
    if found.leans is not known.leans or not known.size:
        return replace(found, size=encoded.size)
    if encoded.size > _GROWN * known.size and bool(found.leans) is based:
        return None
    return found


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
