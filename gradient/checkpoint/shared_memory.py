"""Tensors of a component that share memory: tied weights, views of one buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from gradient.errors import MalformedObjectError
from gradient.objects.canonical import Json
from gradient.state import tensors
from gradient.state.tensors import TensorSpec

_FAR = 1 << 60


@dataclass(slots=True)
class SharedStorage:
    """A range of memory in which at least two tensors of a component overlap."""

    start: int
    """The offset of the first byte in use, from the beginning of the storage."""
    stop: int
    """The offset after the last byte in use."""
    members: list[torch.Tensor] = field(default_factory=list)

    def content(self) -> torch.Tensor:
        """Return the range as a flat tensor, in the members' dtype if they have the same one."""
        first = self.members[0]
        dtype = first.dtype if len({member.dtype for member in self.members}) == 1 else torch.uint8
        flat = torch.empty(0, dtype=dtype, device=first.device)
        start, length = self.start // dtype.itemsize, (self.stop - self.start) // dtype.itemsize
        return flat.set_(tensors.longest_storage(self.members), start, (length,), (1,))


def find_shared(value: Any) -> tuple[list[SharedStorage], dict[int, int]]:
    """Find overlapping tensors anywhere in a nested plain value.

    Returns the shared ranges in the order in which their first tensor occurs, and a map from
    ``id(tensor)`` to the range's number. Tensors that share no memory are in neither.
    """
    by_storage: dict[Any, list[tuple[int, int, torch.Tensor]]] = {}
    order: dict[int, int] = {}
    for tensor in _tensors(value):
        order.setdefault(id(tensor), len(order))
        if _can_share_memory(tensor):
            key, start, stop = tensors.extent(tensor)
            by_storage.setdefault(key, []).append((start, stop, tensor))
    storages = [
        span for found in by_storage.values() for span in _merged(found) if len(span.members) > 1
    ]
    for storage in storages:
        storage.members.sort(key=lambda member: order[id(member)])
        storage.start -= storage.start % max(member.dtype.itemsize for member in storage.members)
    storages.sort(key=lambda span: order[id(span.members[0])])
    return storages, {id(t): number for number, s in enumerate(storages) for t in s.members}


def view_into(
    storage: torch.Tensor, spec: TensorSpec, *, stride: Json, offset: Json
) -> torch.Tensor:
    """Return a view into `storage` from `offset` bytes on, with `stride` in elements.

    Raises MalformedObjectError for a view that exceeds the storage.
    """
    if type(stride) is not list or not all(type(s) is int and 0 <= s < _FAR for s in stride):
        raise MalformedObjectError(f"not strides: {stride!r:.80}")
    strides = [int(step) for step in stride]  # type: ignore[arg-type]
    if type(offset) is not int or not 0 <= offset < _FAR or offset % spec.itemsize:
        raise MalformedObjectError(f"not an offset: {offset!r:.80}")
    if len(strides) != len(spec.shape) or 0 in spec.shape:
        raise MalformedObjectError(f"strides {strides} do not fit shape {spec.shape}")
    last = sum((size - 1) * step for size, step in zip(spec.shape, strides, strict=True))
    if offset + (last + 1) * spec.itemsize > storage.nbytes:
        raise MalformedObjectError("a shared tensor reaches outside its storage")
    blank = tensors.allocate(replace(spec, shape=(0,), stride=None, requires_grad=False))
    view = blank.detach().set_(
        storage.untyped_storage(), offset // spec.itemsize, spec.shape, strides
    )
    if spec.parameter:
        return torch.nn.Parameter(view, requires_grad=spec.requires_grad)
    return view.requires_grad_() if spec.requires_grad else view


def _merged(by_storage: list[tuple[int, int, torch.Tensor]]) -> Iterator[SharedStorage]:
    """Join what overlaps in one memory."""
    span: SharedStorage | None = None
    for start, stop, tensor in sorted(by_storage, key=lambda each: each[:2]):
        if span is not None and start < span.stop:
            span.stop = max(span.stop, stop)
            span.members.append(tensor)
            continue
        if span is not None:
            yield span
        span = SharedStorage(start, stop, [tensor])
    if span is not None:
        yield span


def _can_share_memory(tensor: torch.Tensor) -> bool:
    """Return whether a tensor can share memory. Tensors that cannot be stored are refused later."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout is torch.strided
        and not (tensor.is_nested or tensor.is_conj() or tensor.is_neg())
        and tensor.device.type != "meta"
        and tensor.numel() > 0
    )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of nested containers in order, entering each container once."""
    stack, entered = [value], set()
    while stack:
        node = stack.pop()
        if isinstance(node, torch.Tensor):
            yield node
        elif isinstance(node, (dict, list, tuple)) and id(node) not in entered:
            entered.add(id(node))
            children = list(node.values()) if isinstance(node, dict) else list(node)
            stack.extend(reversed(children))
