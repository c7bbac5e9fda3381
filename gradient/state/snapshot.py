"""A copy of a state that shares no memory with the live objects."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import torch

from gradient.state.tensors import extent, longest_storage


def snapshot(value: Any) -> Any:
    """Copy a state: tensors to new CPU memory, containers, and other objects with ``deepcopy``.

    Strides are kept. Tensors that overlap in memory overlap in the copy in the same way. Objects
    that cannot be copied, and that no commit can hold (a lock, an open file), are not replaced.
    """
    return _Copier(value).copy(value)


class _Copier:
    """Copies one state. Each range of memory that its tensors cover is copied once."""

    def __init__(self, value: Any) -> None:
        self._stretches: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self._by_storage: dict[tuple[str, int], list[torch.Tensor]] = {}
        self._copies: dict[tuple[tuple[str, int], int], torch.Tensor] = {}
        for tensor in _tensors(value):
            if _is_plain(tensor):
                key, start, stop = extent(tensor)
                self._stretches.setdefault(key, []).append((start, stop))
                self._by_storage.setdefault(key, []).append(tensor)
        for key, stretches in self._stretches.items():
            self._stretches[key] = _merge(stretches)

    def copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if type(value) is np.ndarray:
            return value.copy(order="K")
        rebuild = _REBUILD.get(type(value))
        if rebuild is not None:
            return rebuild(self.copy, value)
        return value if type(value) in _IMMUTABLE else _copied(value)

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if not _is_plain(tensor):
            return tensor.detach().clone().cpu()
        key, start, _ = extent(tensor)
        stretches = self._stretches[key]
        number = bisect_right(stretches, start, key=itemgetter(0)) - 1
        first, last = stretches[number]
        # Align to 16 bytes, so that offsets are whole elements for every dtype.
        first -= first % 16
        memory = self._copies.get((key, number))
        if memory is None:
            raw = torch.empty(0, dtype=torch.uint8, device=tensor.device)
            raw.set_(longest_storage(self._by_storage[key]), first, (last - first,), (1,))
            memory = torch.empty(last - first, dtype=torch.uint8, device="cpu").copy_(raw)
            self._copies[key, number] = memory
        copied = torch.empty(0, dtype=tensor.dtype, device="cpu")
        offset = (start - first) // tensor.element_size()
        copied.set_(memory.untyped_storage(), offset, tensor.shape, tensor.stride())
        if type(tensor) is torch.nn.Parameter:
            return torch.nn.Parameter(copied, requires_grad=tensor.requires_grad)
        return copied.requires_grad_(tensor.requires_grad and tensor.is_leaf)


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except (TypeError, RuntimeError):
        return value


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type != "meta"
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg())
        and tensor.numel() > 0
    )


def _merge(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges sorted, with overlapping ones joined."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple | deque):
        for item in value:
            yield from _tensors(item)


_Copy = Callable[[Any], Any]


def _dict(copied: _Copy, value: dict[Any, Any]) -> dict[Any, Any]:
    return {key: copied(item) for key, item in value.items()}


_REBUILD: dict[type, Callable[[_Copy, Any], Any]] = {
    list: lambda copied, value: [copied(item) for item in value],
    tuple: lambda copied, value: tuple(copied(item) for item in value),
    dict: _dict,
    OrderedDict: lambda copied, value: OrderedDict(_dict(copied, value)),
    Counter: lambda copied, value: Counter(_dict(copied, value)),
    defaultdict: lambda copied, value: defaultdict(value.default_factory, _dict(copied, value)),
    deque: lambda copied, value: deque((copied(item) for item in value), value.maxlen),
    set: lambda copied, value: set(value),
    bytearray: lambda copied, value: bytearray(value),
}

_IMMUTABLE = frozenset(
    {type(None), bool, int, float, complex, str, bytes, frozenset}
    | {torch.Size, torch.dtype, torch.device}
)
