"""``.pt`` files that somebody made to do harm, or that a disk damaged: one function makes each."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.integrations.hostile import archives, pickles, tensors
from tests.integrations.hostile.making import Run


def run_code(path: Path) -> None:
    import os

    torch.save({"w": Run(os.system, "touch pwned")}, path)


def run_open(path: Path) -> None:
    torch.save({"w": Run(open, "pwned", "w")}, path)


def plain_pickle(path: Path) -> None:
    import os

    path.write_bytes(pickle.dumps({"w": Run(os.system, "touch pwned")}))


def deep(path: Path) -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    torch.save({"w": value}, path)


def module(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), path)


def no_state_dict(path: Path) -> None:
    torch.save([1, 2, 3], path)


MAKERS = (
    run_code,
    run_open,
    plain_pickle,
    deep,
    module,
    no_state_dict,
)

FILES: dict[str, Callable[[Path], None]] = {
    **{
        make.__name__: make
        for make in (*MAKERS, *archives.MAKERS, *pickles.MAKERS, *tensors.MAKERS)
    },
    **tensors.CLAIMS,
    **archives.ARCHIVES,
}
