"""The formats that can be imported, and the detection of a path's format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from gradient.errors import NotFoundError
from gradient.integrations import dcp, hf_trainer, torch_file
from gradient.integrations.imported_checkpoint import Incoming, step_of_name
from gradient.storage import fs
from gradient.view import safetensors


@dataclass(frozen=True, slots=True)
class Format:
    """A format of checkpoints."""

    title: str
    """Its name in messages."""
    checkpoints: Callable[[str], list[str]]
    """Returns the checkpoints at a path, ordered by step; none if the path has another format.
    Looks at names only."""
    read: Callable[[str], Incoming]
    """Reads one checkpoint."""


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint that can be imported."""

    format: str
    """Its format: a name of `FORMATS`."""
    path: str
    """Its path."""

    def read(self) -> Incoming:
        """Read it; raise a GradientError that names the file if it cannot be read."""
        return FORMATS[self.format].read(self.path)


def find(path: str) -> list[FoundCheckpoint]:
    """Return the checkpoints at a path; raise NotFoundError if there are none."""
    if not fs.exists(path):
        raise NotFoundError(f"there is no file or folder {path}")
    for name, each in FORMATS.items():
        found = each.checkpoints(path)
        if found:
            return [FoundCheckpoint(name, one) for one in found]
    titles = "; ".join(each.title for each in FORMATS.values())
    raise NotFoundError(f"{path} is of no format that can be imported: {titles}")


def _read_safetensors(path: str) -> Incoming:
    tensors, metadata = safetensors.open_tensors(path)
    return Incoming(
        path,
        "safetensors",
        {
            "model": torch_file.weights(
                safetensors.load(safetensors.with_aliases(tensors, metadata))
            )
        },
        step_of_name(metadata.get("gradient.revision", "")),
    )


def _file(*suffixes: str) -> Callable[[str], list[str]]:
    def checkpoints(path: str) -> list[str]:
        return [path] if path.endswith(suffixes) and fs.is_file(path) else []

    return checkpoints


def _distributed(path: str) -> list[str]:
    """Return one folder, or the folders directly in it, ordered by the numbers in their names."""
    if dcp.is_distributed(path):
        return [path]
    if not fs.is_folder(path):
        return []
    inside = [str(PurePath(path, name)) for name in fs.names(path)]
    found = [one for one in inside if dcp.is_distributed(one)]
    return sorted(found, key=lambda one: (step_of_name(one) or 0, one))


def _trainer(path: str) -> list[str]:
    if not fs.is_folder(path):
        return []
    return hf_trainer.checkpoints(path) or ([path] if hf_trainer.is_checkpoint(path) else [])


FORMATS: Final[dict[str, Format]] = {
    "torch": Format(
        "a .pt, .pth, .bin or .ckpt file of torch.save",
        _file(*torch_file.SUFFIXES),
        torch_file.read,
    ),
    "safetensors": Format("a .safetensors file", _file(".safetensors"), _read_safetensors),
    "distributed": Format("a folder of torch.distributed.checkpoint", _distributed, dcp.read),
    "trainer": Format(
        "a folder checkpoint-N of transformers' Trainer, or one with such folders",
        _trainer,
        hf_trainer.read,
    ),
}
"""The formats of single checkpoints. A repo of the published gradient-desc is a history, and has
its own importer: `gradient.integrations.gradient_desc`.
"""
