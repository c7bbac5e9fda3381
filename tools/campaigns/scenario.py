"""Where a campaign plays: what is done to which repo, and what is right afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.campaigns import operations
from tools.campaigns.operations import Operation
from tools.campaigns.oracle import Judge, Refs


@dataclass(frozen=True, slots=True)
class Stage:
    """Where lives are lived: what they do, from which beginning, and what is right."""

    operations: Mapping[str, Operation]
    """By name."""
    make: Callable[[Path], tuple[Path, Refs]]
    """Makes a world in an empty folder; returns the repo's folder, and what is in it."""
    judge: Judge
    """Whether a commit holds what it should."""


STORE: Final = Stage(operations.OPERATIONS, operations.make_world, operations.is_right)
