"""Numbers that a run says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradient.errors import UnsupportedValueError


def numbers(metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """Turn metrics into plain ints and floats.

    Accepts Python and NumPy numbers and zero-dim tensors; raises UnsupportedValueError, naming the
    metric, for anything else. Values that are not finite are kept as they are.
    """
    return {_name(name): _number(name, value) for name, value in metrics.items()}


def _name(name: Any) -> str:
    if type(name) is not str or not name:
        raise UnsupportedValueError(f"metric {name!r}", "a name is text", "Use a str.")
    return name


def _number(name: str, value: Any) -> int | float:
    if type(value) is bool:
        return int(value)
    if type(value) is int or type(value) is float:
        return value
    shape = getattr(value, "shape", None)
    item = getattr(value, "item", None)
    if item is not None and (shape is None or len(shape) == 0):
        number = item()
        if type(number) in (int, float, bool):
            return int(number) if type(number) is bool else number
    raise UnsupportedValueError(
        f"metric {name!r}",
        f"a {type(value).__name__} is not a number",
        "Log a number or a zero-dim tensor.",
    )
