"""The result of reading another program's checkpoint, arranged as the state of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final

from gradient.objects.commit import MAX_STEP

_STEP: Final = re.compile(r"(?<![0-9])([0-9]{1,15})(?![0-9])")


@dataclass(frozen=True, slots=True)
class Incoming:
    """One checkpoint."""

    path: str
    """The file or folder that it was read from."""
    format: str
    """The name of its format in `gradient.integrations.formats.FORMATS`."""
    state: Mapping[str, Any]
    """Its components."""
    step: int | None = None
    """Its recorded step."""
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    """Its recorded metrics."""
    hparams: Mapping[str, Any] = field(default_factory=dict)
    """The hyperparameters of its run, if it stores them separately."""
    message: str = ""
    """Its message."""
    notes: tuple[str, ...] = ()
    """The losses of the import, one sentence each."""


def step_of_name(path: str) -> int | None:
    """Return the last number in a file's or folder's name: ``checkpoint-500``, ``step_7.pt``."""
    found = _STEP.findall(PurePath(path).stem)
    return int(found[-1]) if found and int(found[-1]) <= MAX_STEP else None


def as_step(value: object) -> int | None:
    """Return a value if it is a valid step."""
    return value if type(value) is int and 0 <= value <= MAX_STEP else None
