"""Grouping of a state dict's names into subtrees: one per top-level module, split when large.

The rule uses only the names. So a model is always grouped in the same way, and a module whose
tensors did not change keeps its subtree id from commit to commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Leaf = TypeVar("_Leaf")

SPLIT = 64
"""A module with more names than this is also split by the next segment of its names."""

LEVELS = 50
"""Modules nested deeper than this are not split: readers refuse trees deeper than 100 levels."""


def group(names: Mapping[str, _Leaf]) -> dict[str, _Leaf | dict[str, _Leaf]] | None:
    """Group dotted names by their first segment; return None if grouping would lose information.

    Grouping loses the order of names if groups interleave, and a name if both `a` and `a.b` exist.
    """
    grouped: dict[str, _Leaf | dict[str, _Leaf]] = {}
    modules: dict[str, dict[str, _Leaf]] = {}
    last = None
    for name, leaf in names.items():
        head, dot, rest = name.partition(".")
        if not dot:
            if head in grouped:
                return None
            grouped[head] = leaf
        elif head == last:
            modules[head][rest] = leaf
        elif head in grouped:
            return None
        else:
            grouped[head] = modules[head] = {rest: leaf}
        last = head if dot else None
    return grouped if modules else None
