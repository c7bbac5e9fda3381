"""How people name a metric together with the direction in which it is better."""

from __future__ import annotations


def split_metric(text: str) -> tuple[str, int]:
    """Split ``acc:max`` into the metric's name and -1, ``loss`` or ``loss:min`` into it and 1."""
    name, _, direction = text.rpartition(":")
    if name and direction in ("min", "max"):
        return name, 1 if direction == "min" else -1
    return text, 1
