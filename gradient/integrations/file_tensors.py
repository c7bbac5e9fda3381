"""The tensors of a file as one side of a comparison, under the names that a commit would have."""

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
"""The suffixes of files that can be compared."""


@dataclass(frozen=True, slots=True)
class LoadedTensor:
    """A tensor in memory."""

    tensor: torch.Tensor
    """The tensor."""

    @property
    def dtype(self) -> str:
        """Its dtype, as the store spells it."""
        return NAMES.get(self.tensor.dtype, str(self.tensor.dtype).removeprefix("torch."))

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        return tuple(self.tensor.shape)

    def load(self) -> torch.Tensor:
        """Return the tensor."""
        return self.tensor


def is_file_name(text: str) -> bool:
    """Return whether an argument means a file: it has a known suffix, and the file exists."""
    return text.endswith(SUFFIXES) and fs.is_file(text)


def open_side(path: str) -> Side:
    """Open a ``.pt`` or ``.safetensors`` file as one side.

    The safety checks of imports apply. Raises NotFoundError, IntegrityError, UnsupportedValueError.
    """
    if not fs.is_file(path):
        raise NotFoundError(f"there is no file {path}")
    if path.endswith(".safetensors"):
        return Side(path, {"model": safetensors.with_aliases(*safetensors.open_tensors(path))})
    found = torch_file.read(path)
    return of_state(found.state, path, metrics=found.metrics)


def of_state(state: Mapping[str, Any], name: str, *, metrics: Mapping[str, Any]) -> Side:
    """Use a state in memory as one side."""
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
