"""The repo, the operations and the correctness check of a campaign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.campaigns import operations
from tools.campaigns.operations import Operation
from tools.campaigns.oracle import Refs, StateCheck


@dataclass(frozen=True, slots=True)
class Scenario:
    """A repo to start from, operations on it, and a check of its commits."""

    operations: Mapping[str, Operation]
    """The operations by name."""
    make: Callable[[Path], tuple[Path, Refs]]
    """Makes a repo below an empty folder; returns its path and its refs."""
    judge: StateCheck
    """Returns whether a commit has the state of its step."""


STORE: Final = Scenario(operations.OPERATIONS, operations.make_world, operations.is_right)
