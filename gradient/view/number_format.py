"""The figures of a comparison as text, the same in the terminal and on the page."""

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
    """Return a figure as text; a dash for None."""
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.3g}"


def not_finite(sums: Sums | None) -> str:
    """Return the number of NaN or infinite elements before and after; empty for none."""
    if sums is None or not (sums.not_finite_before or sums.not_finite_after):
        return ""
    return f"not finite: {sums.not_finite_before:,} → {sums.not_finite_after:,}"


def heat(relative: float | None) -> float:
    """Return the heat of a relative change: 0 to 1 on a logarithmic scale."""
    if relative is None or math.isinf(relative):
        return 1.0
    if relative <= 0:
        return 0.0
    return max(0.0, min(1.0, (math.log10(relative) - COLDEST) / (HOTTEST - COLDEST)))


def form(change: TensorChange) -> str:
    """Return dtype and shape as text, before and after if they differ."""
    forms = [f"{each.dtype} {list(each.shape)}" for each in (change.before, change.after) if each]
    return " → ".join(dict.fromkeys(forms))
