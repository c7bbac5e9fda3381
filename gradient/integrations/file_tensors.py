"""A file as one side of a comparison: its tensors, under the names that a commit would have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gradient.checkpoint.diff import TensorSource
from gradient.errors import MalformedObjectError, NotFoundError
from gradient.integrations import torch_file
from gradient.state.tensors import NAMES
from gradient.storage import fs
from gradient.view import safetensors
from gradient.view.compare import Side, group_options

if TYPE_CHECKING:
    import torch

SUFFIXES: Final = (*torch_file.SUFFIXES, ".safetensors")
"""How files that can be compared are called."""


@dataclass(frozen=True, slots=True)
class LoadedTensor:
    """A tensor that is in memory."""

    tensor: torch.Tensor
    """It."""

    @property
    def dtype(self) -> str:
        """Its element type, as the store calls it."""
        return NAMES.get(self.tensor.dtype, str(self.tensor.dtype).removeprefix("torch."))

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        return tuple(self.tensor.shape)

    def load(self) -> torch.Tensor:
        """Return it."""
        return self.tensor


def is_file_name(text: str) -> bool:
    """Tell whether a word on the command line means a file: by its ending, and that it is there."""
    return text.endswith(SUFFIXES) and fs.is_file(text)


def open_side(path: str) -> Side:
    """Take a ``.pt`` or ``.safetensors`` file as one side.

    The guards of imports hold. Raises NotFoundError, IntegrityError, UnsupportedValueError.
    """
    if not fs.is_file(path):
        raise NotFoundError(f"there is no file {path}")
    if path.endswith(".safetensors"):
        return Side(path, {"model": safetensors.with_aliases(*safetensors.open_tensors(path))})
    found = torch_file.read(path)
    return of_state(found.state, path, metrics=found.metrics)


def of_state(state: Mapping[str, Any], name: str, *, metrics: Mapping[str, Any]) -> Side:
    """Take a state in memory as one side."""
    tensors: dict[str, dict[str, TensorSource]] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for component in ("model", "optimizer"):
        if component in state:
            tensors[component] = dict(_tensors(state[component]))
    if not any(tensors.values()):
        raise MalformedObjectError(f"{name} holds no tensors of a model or an optimizer")
    optimizer = state.get("optimizer")
    if isinstance(optimizer, Mapping):
        inner = optimizer.get("opaque", optimizer)
        if isinstance(inner, Mapping):  # of several optimizers it is a list
            facts["param groups"] = group_options(inner.get("param_groups"))
    if metrics:
        facts["metrics"] = metrics
    return Side(name, tensors, facts)


def _tensors(value: Any, path: str = "") -> Iterator[tuple[str, TensorSource]]:
    """Name tensors as `gradient.checkpoint.component_tensors` does."""
    if hasattr(value, "untyped_storage"):
        yield path, LoadedTensor(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors(item, f"{path}.{number}" if path else str(number))
