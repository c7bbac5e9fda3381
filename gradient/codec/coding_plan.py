"""How is a chunk to be coded? Samples say, and what they said serves the chunks after it.

A plan that does not fit any more costs bytes, never bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from gradient.codec import delta, entropy
from gradient.codec.mode import Mode
from gradient.codec.plane_survey import PLAIN, ROTATED, survey
from gradient.codec.stream import NOISE

if TYPE_CHECKING:
    from gradient.codec.elements import Words
    from gradient.codec.plane_survey import Survey


@dataclass(frozen=True, slots=True)
class CodingPlan:
    """What the samples of a chunk said: likely to hold for what is at its place at the next commit.

    One per place is kept, which is why it is small.
    """

    alone: Survey | None = None
    """Of the chunk itself; None: not asked."""
    step: Survey | None = None
    """Of its difference from a base; None: not asked."""
    prefers_delta: bool | None = None
    """Whether the difference is the better choice; None: not asked."""
    size: int = 0
    """What the payload weighed then."""

    def fits(self, width: int) -> bool:
        """Whether it was made for elements of `width` bytes."""
        return all(seen is None or len(seen.entropies) == width for seen in (self.alone, self.step))


EMPTY_PLAN: Final = CodingPlan()

_MAX_DELTA_RATIO: Final = 0.97
"""What a delta may cost of what the chunk costs alone: the estimate is a sample's."""

_MIN_SAVED_BYTES: Final = 2048
"""Bytes that a delta must save: it pins a second chunk, which takes a tenth of a millisecond at
least to be read and proved, however short it is."""

_MAX_GROWTH: Final = 1.1
"""How much larger a payload may come out than when its plan was made: a difference grows with each
step away from its base, which is no reason to ask anew."""


def complete(elements: Words, source: Words | None, known: CodingPlan, mode: Mode) -> CodingPlan:
    """Take the samples that are needed beyond what is known; `source` is the base's elements."""
    if source is not None and known.prefers_delta is None:
        part = sample(elements)
        alone = known.alone or _survey(part, mode)
        step = _survey_delta(part, sample(source))
        return CodingPlan(
            alone,
            step,
            _delta_pays(elements, estimated_bits(step, mode), estimated_bits(alone, mode)),
        )
    if known.alone is None:
        return replace(known, alone=_survey(sample(elements), mode))
    return known


def with_surveys(found: CodingPlan, alone: Survey | None, step: Survey | None) -> CodingPlan:
    """Return the plan with what coding added to its surveys; None where one was not used."""
    return replace(found, alone=alone or found.alone, step=step or found.step)


def next_plan(found: CodingPlan, known: CodingPlan, size: int, *, based: bool) -> CodingPlan | None:
    """Return the plan for next time; None where a payload of `size` bytes has outgrown it."""
    if found.prefers_delta is not known.prefers_delta or not known.size:
        return replace(found, size=size)
    if size > _MAX_GROWTH * known.size and bool(found.prefers_delta) is based:
        return None
    return found


def estimated_bits(seen: Survey, mode: Mode) -> float:
    """Return the estimated bits per element."""
    return seen.bits(NOISE[mode])


def sample(elements: Words) -> Words:
    """Return some of the elements, from all over."""
    return np.concatenate([elements[run] for run in entropy.sample_indices(elements.size)])


def _delta_pays(elements: Words, step: float, alone: float) -> bool:
    """Tell by their bits per element whether the difference is to be preferred."""
    return (
        step < _MAX_DELTA_RATIO * alone and (alone - step) * elements.size >= 8 * _MIN_SAVED_BYTES
    )


def _survey(part: Words, mode: Mode) -> Survey:
    """Survey rotated elements where their top plane has something to code, plain ones elsewhere."""
    if part.itemsize > 1:
        seen = survey(part, ROTATED)
        if 0 < seen.entropies[-1] <= NOISE[mode]:
            return seen
    return survey(part, PLAIN)


def _survey_delta(part: Words, base: Words) -> Survey:
    difference = np.empty_like(part)
    delta.difference(part, base, difference)
    return survey(difference, PLAIN)
