"""One state as JSON with slots for its bulk data: everything that is decided before writing.

Making a draft copies the small values and raises for values that cannot be stored. For tensors,
arrays and long byte strings it records only where the bytes are. A slot refers to live memory until
the content is written, or until `snapshots` replaces it with a copy.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from gradient.checkpoint import shared_memory, subtree_grouping
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.state import tagged_json, tensors
from gradient.state.value_format import INLINE_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(slots=True)
class Draft:
    """A state that is ready to be written."""

    parts: dict[str, Part]
    """Its components by name."""
    slots: list[Slot]
    """The bulk data of all components, in order."""


def draft(state: Mapping[str, Any]) -> Draft:
    """Draft every component; raises UnsupportedValueError naming the value without encoding."""
    slots: list[Slot] = []
    return Draft({name: encode(value, name, slots) for name, value in state.items()}, slots)


@dataclass(slots=True)
class Slot:
    """A node whose chunk ids are filled in when its content has been written."""

    node: dict[str, Json]
    data: Buffer | torch.Tensor
    path: str
    dtype: str | None
    nbytes: int
    width: int
    stored: Sequence[Oid] | None = None
    """The ids of its chunks if they are stored already; `data` is then ignored."""
    written: Sequence[Oid] = ()
    """The ids of its chunks after writing."""


@dataclass(slots=True)
class NamedPart:
    """A component with named entries."""

    entries: dict[str, Any]
    type: str
    flat: bool
    storages: list[Json]


@dataclass(slots=True)
class ValuePart:
    """A component without named entries: one value."""

    value: Json
    storages: list[Json]


class _ContentCollector:
    """Collects the tensors and bytes of one component while its values are encoded."""

    def __init__(self, slots: list[Slot], value: Any, path: str) -> None:
        self._holes = slots
        shared, self._places = shared_memory.find_shared(value)
        self._starts = [storage.start for storage in shared]
        self._keepalive = [storage.content() for storage in shared]
        self.storages: list[Json] = [
            self._own(content, f"{path}{{{number}}}")
            for number, content in enumerate(self._keepalive)
        ]

    def tensor(self, tensor: torch.Tensor, path: str) -> Json:
        """Encode a tensor with chunks of its own, or as a view into a storage of the component."""
        number = self._places.get(id(tensor))
        if number is None:
            return self._own(tensor, path)
        _, start, _ = tensors.extent(tensor)
        node = replace(tensors.describe(tensor, path), stride=None).to_json()
        node["stride"] = [*tensor.stride()]
        node["storage"] = number
        node["offset"] = start - self._starts[number]
        return node

    def data(self, buffer: Buffer, width: int, path: str) -> Json:
        """Encode plain bytes."""
        node: dict[str, Json] = {}
        self._reserve(Slot(node, buffer, path, None, memoryview(buffer).nbytes, width))
        return node

    def _own(self, tensor: torch.Tensor, path: str) -> Json:
        spec = tensors.describe(tensor, path)
        node = spec.to_json()
        self._reserve(Slot(node, tensor, path, spec.dtype, spec.nbytes, _width(spec)))
        return node

    def _reserve(self, slot: Slot) -> None:
        if slot.nbytes <= INLINE_BYTES:
            slot.node["data"] = bytes(memory(slot.data)).hex()
        else:
            slot.node["nbytes"] = slot.nbytes
            self._holes.append(slot)


def _width(spec: tensors.TensorSpec) -> int:
    """Return the bytes of each number in an element: a complex element has two numbers."""
    return spec.itemsize // 2 if spec.dtype.startswith("complex") else spec.itemsize


def memory(data: Buffer | torch.Tensor) -> memoryview:
    """Return the bytes of a slot's data, copied only if they are not dense CPU memory."""
    if isinstance(data, torch.Tensor):
        return tensors.memory(data)
    return memoryview(data).cast("B")


Part: TypeAlias = NamedPart | ValuePart
"""A component, or a part of one that becomes a tree of its own."""


def encode(value: Any, path: str, slots: list[Slot]) -> Part:
    """Encode one component and append its bulk data to `slots`."""
    collector = _ContentCollector(slots, value, path)
    if not _has_names(value):
        return ValuePart(tagged_json.encode(value, writer=collector, path=path), collector.storages)
    entries: dict[str, Any] = {
        name: tagged_json.encode(item, writer=collector, path=f"{path}.{name}")
        for name, item in value.items()
    }
    has_tensors = any(isinstance(item, torch.Tensor) for item in value.values())
    grouped = subtree_grouping.group(entries) if has_tensors else None
    kind = type(value).__name__
    if grouped is None:
        return NamedPart(entries, kind, flat=False, storages=collector.storages)
    for name, item in grouped.items():
        if name not in entries:
            grouped[name] = _module(item)
    return NamedPart(grouped, kind, flat=True, storages=collector.storages)


def _has_names(value: Any) -> bool:
    """Return whether a value is a mapping whose keys can name the entries of a tree."""
    if type(value) not in (dict, OrderedDict) or not all(type(name) is str for name in value):
        return False
    return not any("\ud800" <= letter <= "\udfff" for name in value for letter in name)


def _module(entries: dict[str, Any], level: int = 1) -> NamedPart:
    large = len(entries) > subtree_grouping.SPLIT and level < subtree_grouping.LEVELS
    grouped = subtree_grouping.group(entries) if large else None
    if grouped is None:
        return NamedPart(entries, "dict", flat=True, storages=[])
    for name, item in grouped.items():
        if name not in entries:
            grouped[name] = _module(item, level + 1)
    return NamedPart(grouped, "dict", flat=True, storages=[])
