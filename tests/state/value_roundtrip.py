"""Where the tests keep the bulk of values, and how they compare what comes back."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.state.tagged_json import decode, encode
from gradient.state.tensors import (
    TensorSpec,
    allocate,
    describe,
    memory,
    same_bits,
    writable_memory,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Shelf:
    """A `ContentWriter` and a `ContentReader` over a list."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.widths: list[int] = []

    def tensor(self, tensor: torch.Tensor | Json, path: str = "") -> Any:
        if not isinstance(tensor, torch.Tensor):
            return self._load(tensor)
        return {
            "spec": describe(tensor, path).to_json(),
            "data": self.data(memory(tensor), 1, path),
        }

    def _load(self, node: Any) -> torch.Tensor:
        tensor = allocate(TensorSpec.from_json(node["spec"]))
        writable_memory(tensor)[:] = self.items[node["data"]]
        return tensor

    def data(self, data: Buffer | Json, width: int = 0, path: str = "") -> Any:
        if not width:
            return self.items[data]
        self.items.append(bytes(data))
        self.widths.append(width)
        return len(self.items) - 1


def through(value: object) -> Any:
    """Send a value through its canonical bytes and back."""
    shelf = Shelf()
    raw = canonical.dumps(encode(value, writer=shelf, path="state"))
    return decode(canonical.loads(raw), reader=shelf)


def same(one: Any, other: Any) -> bool:
    """Compare type and bits, all the way down, the order of mappings included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return same_bits(one, other) and one.requires_grad == other.requires_grad
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (set, frozenset)):
        return one == other
    if hasattr(one, "__iter__") and not isinstance(one, (str, bytes, bytearray)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
