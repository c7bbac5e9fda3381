"""The changes between two sets of named tensors, computed one tensor at a time.

Stored tensors with the same content ids are not read. Two tensors with the same chunk boundaries
are read a few chunks at a time, and a chunk that both contain is read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from gradient.checkpoint.component_tensors import ComponentTensor
from gradient.checkpoint.tensor_distance import Sums
from gradient.codec.chunks import ranges
from gradient.objects.oid import Oid
from gradient.state import tensors
from gradient.state.tensors import DTYPES, ITEM_SIZES, TensorSpec

if TYPE_CHECKING:
    import torch

Status: TypeAlias = Literal["equal", "changed", "reshaped", "added", "removed"]

_CHUNKS_AT_ONCE = 8
_ELEMENTS_AT_ONCE = 1 << 20


class TensorSource(Protocol):
    """A tensor that can be loaded."""

    @property
    def dtype(self) -> str:
        """The stored name of its element type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""

    def load(self) -> torch.Tensor:
        """Return the tensor on the CPU."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """The dtype and the shape of a tensor."""

    dtype: str
    """The stored name of its element type."""
    shape: tuple[int, ...]
    """The size of each dimension."""


@dataclass(frozen=True, slots=True)
class TensorChange:
    """The change of one tensor."""

    name: str
    """Its name."""
    status: Status
    """``reshaped`` means that the shapes differ and the values cannot be compared."""
    before: TensorType | None
    """Its type before; None if it was added."""
    after: TensorType | None
    """Its type after; None if it was removed."""
    elements: int
    """The number of its elements (before, if it was removed)."""
    sums: Sums | None
    """The sums over its elements; None if equal ids or differing shapes made them unnecessary."""

    @property
    def fraction(self) -> float:
        """The fraction of its elements that changed, from 0 to 1."""
        if self.sums is not None:
            return self.sums.fraction
        return 0.0 if self.status == "equal" else 1.0

    @property
    def relative(self) -> float | None:
        """The relative L2 change; see `Sums.relative`."""
        return self._or_if_equal(None if self.sums is None else self.sums.relative, 0.0)

    @property
    def max_abs(self) -> float | None:
        """The largest absolute change of an element."""
        return self._or_if_equal(None if self.sums is None else self.sums.max_abs, 0.0)

    @property
    def cosine(self) -> float | None:
        """The cosine between before and after."""
        return self._or_if_equal(None if self.sums is None else self.sums.cosine, 1.0)

    @property
    def retyped(self) -> bool:
        """True if its dtype changed."""
        return (
            self.before is not None
            and self.after is not None
            and (self.before.dtype != self.after.dtype)
        )

    def _or_if_equal(self, found: float | None, where_equal: float) -> float | None:
        if self.sums is None and self.status == "equal":
            return where_equal
        return found


@dataclass(frozen=True, slots=True)
class LayerChange:
    """The change of all tensors of one layer."""

    name: str
    """The common prefix of the names: see `layer_of`."""
    tensors: int
    """The number of tensors on either side."""
    changed_tensors: int
    """The number of tensors that are not equal."""
    elements: int
    """The number of elements of all these tensors."""
    fraction: float
    """The fraction of those elements that changed, from 0 to 1."""
    sums: Sums
    """The sums over the tensors that changed and could be compared."""


@dataclass(frozen=True, slots=True)
class StateDiff:
    """The changes between two sets of tensors."""

    tensors: tuple[TensorChange, ...]
    """All tensors, the most changed first."""
    layers: tuple[LayerChange, ...]
    """All layers, in the model's order."""

    def count(self, status: Status) -> int:
        """Return the number of tensors with this status."""
        return sum(each.status == status for each in self.tensors)


def compare(
    before: Mapping[str, TensorSource],
    after: Mapping[str, TensorSource],
    *,
    progress: Callable[[int], object] | None = None,
) -> StateDiff:
    """Compare tensors by name; raises IntegrityError.

    `progress` is called with 1 after each name.
    """
    names = list(dict.fromkeys([*before, *after]))
    changes = []
    for name in names:
        changes.append(_change(name, before.get(name), after.get(name)))
        if progress is not None:
            progress(1)
    return StateDiff(tuple(sorted(changes, key=_rank)), tuple(_layers(changes)))


def layer_of(name: str) -> str:
    """Return the layer that a tensor belongs to.

    The layer is the name up to the first number (``transformer.h.3`` for
    ``transformer.h.3.attn.weight``). Without a number it is the name without its last part.
    """
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if part.isdecimal():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:-1]) or name


def _change(name: str, one: TensorSource | None, other: TensorSource | None) -> TensorChange:
    before, after = _type_of(one), _type_of(other)
    either = before or after
    elements = math.prod(either.shape) if either is not None else 0
    if one is None or other is None or before is None or after is None:
        status: Status = "added" if one is None else "removed"
        return TensorChange(name, status, before, after, elements, None)
    if before.shape != after.shape:
        return TensorChange(name, "reshaped", before, after, elements, None)
    if _is_known_equal(one, other):
        return TensorChange(name, "equal", before, after, elements, None)
    sums = Sums()
    for a, b in _pieces(one, other):
        if a is b:
            sums.add_equal(a)
        else:
            sums.add(a, b)
    equal = sums.changed == 0 and before.dtype == after.dtype
    return TensorChange(name, "equal" if equal else "changed", before, after, elements, sums)


def _type_of(source: TensorSource | None) -> TensorType | None:
    return None if source is None else TensorType(source.dtype, source.shape)


def _is_known_equal(one: TensorSource, other: TensorSource) -> bool:
    return (
        isinstance(one, ComponentTensor)
        and isinstance(other, ComponentTensor)
        and one.content == other.content
    )


def _pieces(one: TensorSource, other: TensorSource) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield corresponding flat pieces of both tensors.

    If both items of a pair are the same object, the piece is known to be equal.
    """
    if (
        isinstance(one, ComponentTensor)
        and isinstance(other, ComponentTensor)
        and _is_alike(one, other)
    ):
        a, b = one.chunks(), other.chunks()
        if a is not None and b is not None and len(a) == len(b) == len(_spans(one)):
            yield from _chunk_pieces(one, other, a, b)
            return
    left, right = _flat(one.load()), _flat(other.load())
    for start in range(0, left.numel(), _ELEMENTS_AT_ONCE):
        stop = start + _ELEMENTS_AT_ONCE
        yield left[start:stop], right[start:stop]


def _is_alike(one: ComponentTensor, other: ComponentTensor) -> bool:
    fields = ("dtype", "shape", "stride", "storage")
    return all(one.node.get(field) == other.node.get(field) for field in fields) and (
        one.memory is None and one.dtype in DTYPES
    )


def _spans(tensor: ComponentTensor) -> list[tuple[int, int]]:
    return list(ranges(tensor.elements * ITEM_SIZES[tensor.dtype]))


def _chunk_pieces(
    one: ComponentTensor, other: ComponentTensor, a: list[Oid], b: list[Oid]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    spans = _spans(one)
    for first in range(0, len(spans), _CHUNKS_AT_ONCE):
        # Each is read from its own store, because they may belong to different repos.
        mine: list[tuple[Oid, memoryview]] = []
        theirs: list[tuple[Oid, memoryview]] = []
        pairs = []
        for i in range(first, min(first + _CHUNKS_AT_ONCE, len(spans))):
            length = spans[i][1] - spans[i][0]
            left = _read(mine, a[i], length, one.dtype)
            pairs.append((left, left if a[i] == b[i] else _read(theirs, b[i], length, one.dtype)))
        one.store.read_blobs(mine)
        other.store.read_blobs(theirs)
        yield from pairs


def _read(jobs: list[tuple[Oid, memoryview]], oid: Oid, length: int, dtype: str) -> torch.Tensor:
    """Return a new tensor, and append the job that reads a chunk into it."""
    tensor = tensors.allocate(TensorSpec(dtype, (length // ITEM_SIZES[dtype],)))
    jobs.append((oid, tensors.writable_memory(tensor)))
    return tensor


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().view(-1)


def _rank(change: TensorChange) -> tuple[int, float, float, str]:
    order = {"reshaped": 0, "removed": 1, "added": 2, "changed": 3, "equal": 4}
    relative = change.relative if change.relative is not None else math.inf
    return order[change.status], -relative, -(change.max_abs or 0.0), change.name


def _layers(changes: list[TensorChange]) -> Iterator[LayerChange]:
    """Add up the changes by layer, in the order of the first tensor of each layer."""
    groups: dict[str, list[TensorChange]] = {}
    for change in changes:
        groups.setdefault(layer_of(change.name), []).append(change)
    for name, members in groups.items():
        sums = Sums()
        for each in members:
            if each.sums is not None and each.status == "changed":
                sums.include(each.sums)
        elements = sum(each.elements for each in members)
        touched = sum(each.fraction * each.elements for each in members)
        yield LayerChange(
            name,
            len(members),
            sum(each.status != "equal" for each in members),
            elements,
            touched / elements if elements else 0.0,
            sums,
        )
