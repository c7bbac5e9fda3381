"""One chunk as the payload of a frame, and back.

The payload says by itself how its streams were split; what names it (which object, which base,
which of these codecs) is the frame's header, and that is the pack's business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from gradient.codec import coding_plan, delta, entropy, planes
from gradient.codec.coding_plan import CodingPlan
from gradient.codec.elements import WIDTHS, is_constant, words
from gradient.codec.entropy import Coder
from gradient.codec.mode import Mode
from gradient.codec.plane_survey import PLAIN, survey
from gradient.codec.scratch_buffers import SCRATCH
from gradient.codec.stream import NOISE
from gradient.errors import MalformedObjectError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from gradient.codec.elements import Words
    from gradient.codec.plane_survey import Survey


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
    plan: CodingPlan | None = None
    """For the chunk that comes after this one; None where it is to be asked anew."""


_MIN_BYTES: Final = 64
"""Bytes below which a payload's own header eats what coding saves."""

_TRIAL_BYTES: Final = 1 << 14
"""Bytes on which two settings are compared before a longer run of bytes is coded with one."""


class Chunk(NamedTuple):
    """What is to be encoded."""

    raw: Buffer
    """Elements of `width` bytes each."""
    width: int
    """1, 2, 4 or 8."""
    base: Buffer | None = None
    """Another chunk of the same length that the decoder will be given again; it is used only where
    it pays (then the codec is `DELTA`)."""
    plan: CodingPlan | None = None
    """That of an earlier chunk of the same kind: with it, `AUTO` takes no samples."""


def encode(
    raw: Buffer,
    *,
    width: int,
    mode: Mode,
    base: Buffer | None = None,
    plan: CodingPlan | None = None,
) -> Encoded:
    """Encode one chunk in the smallest form that `mode` looks for; see `Chunk`.

    Raises ValueError if the base's length differs or `width` is none of 1, 2, 4, 8.
    """
    return encode_all([Chunk(raw, width, base, plan)], mode=mode)[0]


def encode_all(chunks: Iterable[Chunk], *, mode: Mode) -> list[Encoded]:
    """Encode chunks, each as `encode` does.

    Those that are coded groups go through numpy together: of a small one, most of the work would be
    the calls. All together must not be much more than one chunk may be.
    """
    found = [_prepare(chunk, mode) for chunk in chunks]
    groups: dict[object, list[_Candidate]] = defaultdict(list)
    for each in found:
        if isinstance(each, _Choice):
            for candidate in each.candidates:
                groups[candidate.group_key(mode)].append(candidate)
    for group in groups.values():
        _encode_group(group, mode)
    return [each.smallest() if isinstance(each, _Choice) else each for each in found]


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
    delta.restore(differences, words(base, differences.itemsize))


def _raw(view: memoryview) -> Encoded:
    return Encoded(Codec.RAW, (view,), len(view))


def _prepare(chunk: Chunk, mode: Mode) -> Encoded | _Choice:
    """Check a chunk, encode it if it is no numbers, and find out how to where it is."""
    raw, width, base, _ = chunk
    view = memoryview(raw).cast("B")
    if width not in WIDTHS:
        raise ValueError(f"width must be one of {WIDTHS}, not {width}")
    if base is not None and memoryview(base).nbytes != len(view):
        raise ValueError(f"a base of {memoryview(base).nbytes} bytes for {len(view)} bytes")
    if mode is Mode.OFF or len(view) < _MIN_BYTES:
        return _raw(view)
    if len(view) % width or (width == 1 and base is None):
        return _prepare_bytes(view, mode)
    return _prepare_words(view, chunk, mode)


def _prepare_bytes(view: memoryview, mode: Mode) -> Encoded | _Choice:
    """Encode text, and numbers of one byte."""
    octets = words(view, 1)
    seen = survey(coding_plan.sample(octets), PLAIN)
    if seen.entropies[0] > NOISE[mode]:
        return _raw(view)
    if seen.entropies[0] == 0 and is_constant(octets):
        return _Choice(view, [_Candidate(Codec.PLANES, octets, None, seen)])
    coders = tuple(Coder) if mode is Mode.AGGRESSIVE else (_choose_coder(view),)
    frame = min((entropy.compress(view, coder) for coder in coders), key=len)
    return Encoded(Codec.ZSTD, (frame,), len(frame)) if len(frame) < len(view) else _raw(view)


def _prepare_words(view: memoryview, chunk: Chunk, mode: Mode) -> _Choice:
    width, plan = chunk.width, chunk.plan
    elements = words(view, width)
    source = None if chunk.base is None else words(chunk.base, width)
    fits = plan is not None and mode is Mode.AUTO and plan.fits(width)
    known = plan if plan is not None and fits else coding_plan.EMPTY_PLAN
    found = coding_plan.complete(elements, source, known, mode)
    candidates: list[_Candidate] = []
    if (
        source is not None
        and found.step is not None
        and (found.prefers_delta or mode is Mode.AGGRESSIVE)
    ):
        candidates.append(_Candidate(Codec.DELTA, elements, source, found.step))
    if found.alone is not None and (not candidates or mode is Mode.AGGRESSIVE):
        candidates.append(_Candidate(Codec.PLANES, elements, None, found.alone))
    pays = [each for each in candidates if coding_plan.estimated_bits(each.seen, mode) < 8 * width]
    return _Choice(view, pays, found, known, based=source is not None)


def _choose_coder(view: memoryview) -> Coder:
    """Rehearse a long run of bytes: text repeats itself, fp8 weights do not."""
    if len(view) <= 2 * _TRIAL_BYTES:
        return Coder.TEXT
    coders = Coder.ENTROPY, Coder.TEXT
    return entropy.try_coders(view, coders, nbytes=_TRIAL_BYTES, worth=0.97)


@dataclass(slots=True)
class _Candidate:
    """One way to code a chunk as planes."""

    codec: Codec
    elements: Words
    source: Words | None
    """What the difference is taken from."""
    seen: Survey
    """What a sample of that said."""
    encoded: Encoded | None = None
    """The outcome."""

    def group_key(self, mode: Mode) -> object:
        """Return what is equal for those that can be coded together."""
        methods = self.seen.methods(NOISE[mode])
        return self.elements.itemsize, self.elements.size, self.seen.transform, methods


@dataclass(slots=True)
class _Choice:
    """The ways to code one chunk, of which the smallest is taken."""

    view: memoryview
    candidates: list[_Candidate]
    found: CodingPlan | None = None
    known: CodingPlan = coding_plan.EMPTY_PLAN
    based: bool = False

    def smallest(self) -> Encoded:
        """Return the smallest, once all are encoded."""
        encoded = [each.encoded for each in self.candidates if each.encoded is not None]
        best = min(encoded, key=lambda each: each.size, default=None)
        if best is None or best.size >= len(self.view):
            best = _raw(self.view)
        if self.found is None:
            return best
        seen = {each.codec: each.seen for each in self.candidates}
        found = coding_plan.with_surveys(self.found, seen.get(Codec.PLANES), seen.get(Codec.DELTA))
        plan = coding_plan.next_plan(found, self.known, best.size, based=self.based)
        return Encoded(best.codec, best.parts, best.size, plan)


def _encode_group(group: Sequence[_Candidate], mode: Mode) -> None:
    """Encode chunks of one group_key, side by side."""
    first = group[0].elements
    if len(group) == 1 and group[0].source is None:
        together = first
    else:
        together = SCRATCH.take("side by side", first.nbytes * len(group)).view(first.dtype)
    for number, each in enumerate(group):
        room = together[number * first.size :][: first.size]
        if each.source is not None:
            delta.difference(each.elements, each.source, room)
        elif together is not first:
            np.copyto(room, each.elements)
    coded = planes.encode(together, [each.seen for each in group], mode=mode)
    for each, (parts, seen) in zip(group, coded, strict=True):
        each.seen = seen
        size = sum(memoryview(part).nbytes for part in parts)
        each.encoded = Encoded(each.codec, tuple(parts), size)
