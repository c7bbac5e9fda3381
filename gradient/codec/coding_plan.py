"""The choice of a coding for a chunk, from samples of its elements.

The plan of a chunk is reused for the same chunk of the next commits. An outdated plan only makes
payloads larger; it never changes the decoded bytes.
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
    """The estimates for a chunk, which are likely to hold for the same chunk of the next commit.

    One plan is kept for each chunk of the state, so it must be small.
    """

    alone: Survey | None = None
    """The survey of the chunk itself; None if it was not sampled."""
    step: Survey | None = None
    """The survey of its difference from the base; None if it was not sampled."""
    prefers_delta: bool | None = None
    """True if the difference is expected to be smaller; None if they were not compared."""
    size: int = 0
    """The size of the payload when the plan was made, in bytes."""

    def fits(self, width: int) -> bool:
        """Return whether the plan was made for elements of `width` bytes."""
        return all(seen is None or len(seen.entropies) == width for seen in (self.alone, self.step))


EMPTY_PLAN: Final = CodingPlan()

_MAX_DELTA_RATIO: Final = 0.97
"""The largest ratio of a delta's estimated size to the chunk's own: both are estimates."""

_MIN_SAVED_BYTES: Final = 2048
"""The bytes that a delta must save. A reader of the delta also reads and verifies its base, which
takes at least a tenth of a millisecond."""

_MAX_GROWTH: Final = 1.1
"""The ratio by which a payload may grow before its plan is discarded. A difference grows with each
step from its base; that alone does not require new samples."""


def complete(elements: Words, source: Words | None, known: CodingPlan, mode: Mode) -> CodingPlan:
    """Return `known` with the missing surveys added; `source` has the elements of the base."""
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
    """Return the plan with the surveys that coding has extended; None keeps the old survey."""
    return replace(found, alone=alone or found.alone, step=step or found.step)


def next_plan(found: CodingPlan, known: CodingPlan, size: int, *, based: bool) -> CodingPlan | None:
    """Return the plan for the next commit; None if a payload of `size` bytes exceeds it."""
    if found.prefers_delta is not known.prefers_delta or not known.size:
        return replace(found, size=size)
    if size > _MAX_GROWTH * known.size and bool(found.prefers_delta) is based:
        return None
    return found


def estimated_bits(seen: Survey, mode: Mode) -> float:
    """Return the estimated number of bits per element."""
    return seen.bits(NOISE[mode])


def sample(elements: Words) -> Words:
    """Return a sample of the elements, taken at regular distances."""
    return np.concatenate([elements[run] for run in entropy.sample_indices(elements.size)])


def _delta_pays(elements: Words, step: float, alone: float) -> bool:
    """Return whether the difference is preferred, from the estimated bits per element of both."""
    return (
        step < _MAX_DELTA_RATIO * alone and (alone - step) * elements.size >= 8 * _MIN_SAVED_BYTES
    )


def _survey(part: Words, mode: Mode) -> Survey:
    """Survey rotated elements if their top plane can be compressed, otherwise plain elements."""
    if part.itemsize > 1:
        seen = survey(part, ROTATED)
        if 0 < seen.entropies[-1] <= NOISE[mode]:
            return seen
    return survey(part, PLAIN)


def _survey_delta(part: Words, base: Words) -> Survey:
    difference = np.empty_like(part)
    delta.difference(part, base, difference)
    return survey(difference, PLAIN)
