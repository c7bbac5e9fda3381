"""Metrics: the numbers that a run logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradient.errors import UnsupportedValueError


def numbers(metrics: Mapping[str, Any] | None) -> dict[str, int | float]:
    """Convert metrics to plain ints and floats; None means no metrics.

    Accepts Python and NumPy numbers and zero-dim tensors; raises UnsupportedValueError, naming the
    metric, for anything else. Values that are not finite are kept as they are.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise UnsupportedValueError(
            "metrics", f"a {type(metrics).__name__} is not a dict", 'Write {"loss": 2.3}.'
        )
    return {_name(name): _number(name, value) for name, value in metrics.items()}


def number(value: Any) -> int | float | None:
    """Return a number or zero-dim array as an int or float; return None for anything else."""
    if type(value) is bool:
        return int(value)
    if type(value) is int or type(value) is float:
        return value
    shape = getattr(value, "shape", None)
    item = getattr(value, "item", None)
    if item is None or (shape is not None and len(shape) != 0):
        return None
    plain = item()
    return number(plain) if type(plain) in (int, float, bool) else None


def _name(name: Any) -> str:
    if type(name) is not str or not name or not _is_unicode(name):
        raise UnsupportedValueError(f"metric {name!r}", "a name is text", "Use a str.")
    return name


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _number(name: str, value: Any) -> int | float:
    plain = number(value)
    if plain is None:
        raise UnsupportedValueError(
            f"metric {name!r}",
            f"a {type(value).__name__} is not a number",
            "Log a number or a zero-dim tensor.",
        )
    return plain
