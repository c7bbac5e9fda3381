"""Long lists in messages: the first few names, and the number of the others."""

from __future__ import annotations

from collections.abc import Iterable


def shorten(names: Iterable[str], most: int, *, separator: str = ", ") -> str:
    """Return at most `most` names as text: ``a, b and 3 more``."""
    listed = list(names)
    others = more(len(listed) - most)
    shown = separator.join(listed[:most])
    return f"{shown} {others}" if others else shown


def more(hidden: int) -> str:
    """Return ``and 3 more`` for three names that are not shown; empty text for none."""
    return f"and {hidden:,} more" if hidden > 0 else ""
