"""Figures of a comparison as people read them: the same in the terminal and on the page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gradient.checkpoint.diff import TensorChange
    from gradient.checkpoint.tensor_distance import Sums

COLDEST: Final = -6
"""A relative change of 10 to this power, or less, is cold."""

HOTTEST: Final = 0
"""A relative change of 10 to this power, or more, is hot."""


def number(value: float | None) -> str:
    """Write a figure; a dash where there is none."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.3g}"


def not_finite(sums: Sums | None) -> str:
    """Say how many elements were and are NaN or infinite; empty where none."""
    if sums is None or not (sums.not_finite_before or sums.not_finite_after):
        return ""
    return f"not finite: {sums.not_finite_before:,} → {sums.not_finite_after:,}"


def heat(relative: float | None) -> float:
    """Return how hot a relative change is: 0 to 1 on a logarithmic scale."""
    if relative is None or math.isinf(relative):
        return 1.0
    if relative <= 0:
        return 0.0
    return max(0.0, min(1.0, (math.log10(relative) - COLDEST) / (HOTTEST - COLDEST)))


def form(change: TensorChange) -> str:
    """Write dtype and shape, and what they became where that differs."""
    forms = [f"{each.dtype} {list(each.shape)}" for each in (change.before, change.after) if each]
    return " → ".join(dict.fromkeys(forms))
