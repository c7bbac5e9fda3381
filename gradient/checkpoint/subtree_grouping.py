"""Which names of a state dict share a subtree: one per top-level module, split further when large.

The rule looks at names alone, so that the same model always groups the same way and a module whose
tensors did not change is the same subtree id from commit to commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_Leaf = TypeVar("_Leaf")

SPLIT = 64
"""A module with more names than this is split by the next segment of its names as well."""

LEVELS = 50
"""Modules nested deeper than this are not split: readers refuse trees below 100 levels."""


def group(names: Mapping[str, _Leaf]) -> dict[str, _Leaf | dict[str, _Leaf]] | None:
    """Gather dotted names under their first segment; None where that would lose something.

    Lost would be the order of the names (groups that interleave), or a name (`a` beside `a.b`).
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
