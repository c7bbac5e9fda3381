"""Encoding one chunk as the payload of a frame, and decoding it.

A payload describes the layout of its own streams. The object id, the base and the codec are in the
frame's header, which the pack writes and reads.
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
    """The encoding of a frame's payload. The numbers are stored and never reassigned."""

    RAW = 0
    """The bytes themselves."""
    ZSTD = 1
    """One zstd frame."""
    PLANES = 2
    """The byte planes of the elements as separately coded streams."""
    DELTA = 3
    """The byte planes of the integer difference from a base of the same length."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One payload before it is written."""

    codec: Codec
    """The codec that decodes it."""
    parts: tuple[Buffer, ...]
    """The buffers to write in order. For `RAW` this is the caller's buffer, not a copy; other
    buffers belong to the payload and do not change."""
    size: int
    """The total length of the parts in bytes, at most the length of the raw chunk."""
    plan: CodingPlan | None = None
    """The plan for the same chunk of the next commit; None if that must be sampled again."""


_MIN_BYTES: Final = 64
"""The length below which the header of a payload outweighs the savings, in bytes."""

_TRIAL_BYTES: Final = 1 << 14
"""The number of bytes on which two coders are compared before longer data is coded."""


class Chunk(NamedTuple):
    """One chunk to encode."""

    raw: Buffer
    """The bytes of the elements."""
    width: int
    """The bytes of each element: 1, 2, 4 or 8."""
    base: Buffer | None = None
    """A chunk of the same length, which the decoder needs if it is used (as codec `DELTA`).
    It is used only if the payload becomes smaller."""
    plan: CodingPlan | None = None
    """The plan of the same chunk of an earlier commit; with it, `AUTO` takes no samples."""


def encode(
    raw: Buffer,
    *,
    width: int,
    mode: Mode,
    base: Buffer | None = None,
    plan: CodingPlan | None = None,
) -> Encoded:
    """Encode one chunk in the smallest form that `mode` tries; see `Chunk` for the arguments.

    Raises ValueError if the length of the base differs or if `width` is not 1, 2, 4 or 8.
    """
    return encode_all([Chunk(raw, width, base, plan)], mode=mode)[0]


def encode_all(chunks: Iterable[Chunk], *, mode: Mode) -> list[Encoded]:
    """Encode several chunks as `encode` does.

    Chunks with the same coding are passed to numpy together, because for small chunks the calls
    would be most of the work. Their total size must not be much larger than one chunk.
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
    """Decode a payload into `out`. Time and memory are bounded by the length of `out`.

    Raises MalformedObjectError if the payload does not decode to exactly `len(out)` bytes, or if
    the base is missing, not needed or of another length; `out` may then be partly written. The
    caller must verify the hash of the decoded bytes. `base` and `out` must not overlap.
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
    """Check a chunk. Encode it if it has no numbers, otherwise return the candidate codings."""
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
    """Encode text and one-byte numbers."""
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
    """Choose a coder by a trial on long data: text has repetitions, fp8 weights do not."""
    if len(view) <= 2 * _TRIAL_BYTES:
        return Coder.TEXT
    coders = Coder.ENTROPY, Coder.TEXT
    return entropy.try_coders(view, coders, nbytes=_TRIAL_BYTES, worth=0.97)


@dataclass(slots=True)
class _Candidate:
    """One coding of a chunk as planes."""

    codec: Codec
    elements: Words
    source: Words | None
    """The elements of the base; None without a difference."""
    seen: Survey
    """The survey of the elements or of the difference."""
    encoded: Encoded | None = None
    """The payload, after encoding."""

    def group_key(self, mode: Mode) -> object:
        """Return a key that is equal for candidates that can be encoded together."""
        methods = self.seen.methods(NOISE[mode])
        return self.elements.itemsize, self.elements.size, self.seen.transform, methods


@dataclass(slots=True)
class _Choice:
    """The candidate codings of one chunk."""

    view: memoryview
    candidates: list[_Candidate]
    found: CodingPlan | None = None
    known: CodingPlan = coding_plan.EMPTY_PLAN
    based: bool = False

    def smallest(self) -> Encoded:
        """Return the smallest payload, after all candidates have been encoded."""
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
    """Encode candidates with the same group key in one pass."""
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
