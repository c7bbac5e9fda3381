"""A tree: either named entries, or one value.

An *entry* is any tagged value (docs/format.md, "Values"); ``{"tree": "<oid>"}`` is the content of
another tree. Names are sorted, so that a tree's id does not depend on the order in which it was
filled; if a user's dict had another order, `order` keeps it as a permutation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradient.errors import MalformedObjectError
from gradient.objects import canonical
from gradient.objects.canonical import Json


@dataclass(frozen=True, slots=True)
class Tree:
    """A mapping from names to entries."""

    entries: Mapping[str, Json]
    """The entries, in the user's order."""
    type: str = "dict"
    """The type of the mapping: ``"dict"`` or ``"OrderedDict"``."""
    flat: bool = False
    """True for a state dict grouped by module: names of subtrees are joined with a dot."""
    storages: tuple[Json, ...] = ()
    """Memory that several tensors of this component share (tied weights)."""

    def to_bytes(self) -> bytes:
        """Encode to the canonical body of a tree object."""
        names = sorted(self.entries)
        body: dict[str, Json] = {"entries": {name: self.entries[name] for name in names}}
        order: list[Json] = [*map({n: i for i, n in enumerate(names)}.__getitem__, self.entries)]
        if order != list(range(len(names))):
            body["order"] = order
        if self.type != "dict":
            body["type"] = self.type
        if self.flat:
            body["flat"] = True
        if self.storages:
            body["storages"] = list(self.storages)
        return canonical.dumps(body)


@dataclass(frozen=True, slots=True)
class ValueTree:
    """One value that is not a mapping with names."""

    value: Json
    """The tagged value."""
    storages: tuple[Json, ...] = ()
    """Memory that several tensors of this component share."""

    def to_bytes(self) -> bytes:
        """Encode to the canonical body of a tree object."""
        body: dict[str, Json] = {"value": self.value}
        if self.storages:
            body["storages"] = list(self.storages)
        return canonical.dumps(body)


def parse(raw: bytes) -> Tree | ValueTree:
    """Parse and check a tree body; raises MalformedObjectError."""
    body = canonical.loads(raw)
    if type(body) is not dict:
        raise MalformedObjectError("a tree is an object")
    storages = body.pop("storages", [])
    if type(storages) is not list:
        raise MalformedObjectError("a tree's storages are a list")
    if "value" in body:
        value_tree = ValueTree(body["value"], tuple(storages))
        if value_tree.to_bytes() != raw:
            raise MalformedObjectError("a tree has further fields, or spells out a default")
        return value_tree
    entries = body.pop("entries", None)
    order = body.pop("order", None)
    kind = body.pop("type", "dict")
    flat = body.pop("flat", False)
    if type(entries) is not dict or kind not in ("dict", "OrderedDict"):
        raise MalformedObjectError("a tree has other fields than these")
    if type(flat) is not bool:
        raise MalformedObjectError("a tree's flat is true or absent")
    if order is not None:
        names = list(entries)
        if type(order) is not list or not _is_permutation(order, len(names)):
            raise MalformedObjectError("a tree's order is not a permutation")
        entries = {names[i]: entries[names[i]] for i in order}  # type: ignore[index]
    tree = Tree(entries, str(kind), flat, tuple(storages))
    if tree.to_bytes() != raw:
        raise MalformedObjectError("a tree has further fields, or spells out a default")
    return tree


def _is_permutation(order: list[Json], length: int) -> bool:
    return all(type(i) is int for i in order) and sorted(order) == list(range(length))  # type: ignore[type-var]
