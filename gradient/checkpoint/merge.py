"""Merging several models tensor by tensor, as weighted sums in double precision.

Goals: memory holds one tensor of each model and small pieces in double precision; nothing is
written before all models have been compared; tensors that are equal in all models keep their
chunks. Integers, extra state and all components except the model are taken from the first commit.
The optimizer is left out, because its moments fit none of the merged weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from gradient.checkpoint import writer
from gradient.checkpoint.component_tensors import BlobReader, ComponentTensor, tensors_in
from gradient.checkpoint.reader import component_entries, component_tree
from gradient.errors import MisfitError
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.state.tensors import DTYPES

if TYPE_CHECKING:
    from gradient.store.transaction import Transaction

Rule: TypeAlias = Callable[[Sequence[torch.Tensor]], Sequence[float]]
"""Returns the weight of each model, given that tensor of each model, flat and in its own dtype."""

AVERAGED: Final = frozenset(
    {
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    }
)
"""Element types that can be averaged. Tensors of other floating types must be equal."""

_STRETCH = 1 << 20
_PARALLEL = 1e-6
_EXTRA = "_extra_state"


def linear(weights: Sequence[float]) -> Rule:
    """Return the rule that uses the same weights for every tensor."""
    return lambda parts: weights


def slerp(share: float) -> Rule:
    """Return the rule of spherical linear interpolation from the first to the second model.

    With ``t = share`` and the angle ``a`` between the two tensors, the weights are
    ``sin((1 - t) * a) / sin(a)`` and ``sin(t * a) / sin(a)`` (Shoemake, Animating Rotation with
    Quaternion Curves, SIGGRAPH 1985). Tensors that are (almost) parallel or opposite are
    interpolated linearly.
    """

    def rule(parts: Sequence[torch.Tensor]) -> Sequence[float]:
        one, other = parts
        squares = _product(one, one) * _product(other, other)
        cosine = _product(one, other) / math.sqrt(squares) if squares > 0 else 1.0
        angle = math.acos(max(-1.0, min(1.0, cosine))) if math.isfinite(cosine) else 0.0
        sine = math.sin(angle)
        if sine < _PARALLEL:
            return 1 - share, share
        return math.sin((1 - share) * angle) / sine, math.sin(share * angle) / sine

    return rule


@dataclass(frozen=True, slots=True)
class CommitModel:
    """The model of one commit."""

    name: str
    """The revision, used in messages."""
    root: Oid
    """The commit's tree."""
    component: Tree | ValueTree
    """The model's tree."""
    tensors: Mapping[str, ComponentTensor]
    """Its tensors, without those of extra state."""
    store: BlobReader
    """The object database that has them."""

    @classmethod
    def of(cls, store: BlobReader, root: Oid, name: str) -> CommitModel:
        """List a commit's model tensors, unread; raises MisfitError if it has no model."""
        entry = component_entries(store, root).get("model")
        if entry is None:
            raise MisfitError(f"{name} has no model", missing=["model"])
        found = {
            tensor.name: tensor for tensor in tensors_in(store, entry) if _is_weight(tensor.name)
        }
        return cls(name, root, component_tree(store, entry), found, store)

    def storage(self, number: int) -> ComponentTensor:
        """Return a storage that several tensors share, as a tensor."""
        node = self.component.storages[number]
        assert type(node) is dict
        return ComponentTensor(f"{{{number}}}", node, self.component, self.store)


def check(models: Sequence[CommitModel]) -> None:
    """Raise MisfitError, listing every difference, unless all models have the same tensors."""
    first = models[0]
    missing: list[str] = []
    unexpected: list[str] = []
    mismatched: dict[str, str] = {}
    lines: list[str] = []
    for other in models[1:]:
        missing += (absent := [name for name in first.tensors if name not in other.tensors])
        unexpected += (extra := [name for name in other.tensors if name not in first.tensors])
        lines += [f"  only in {first.name}: {name}" for name in absent]
        lines += [f"  only in {other.name}: {name}" for name in extra]
        for name, tensor in first.tensors.items():
            difference = _difference(first, tensor, other, other.tensors.get(name))
            if difference is not None:
                mismatched[name] = difference
                lines.append(f"  different: {name}: {difference}")
    if lines:
        title = f"{', '.join(model.name for model in models)} are not the same model"
        text = "\n".join([f"{title}; nothing was written", *lines])
        raise MisfitError(text, missing=missing, unexpected=unexpected, mismatched=mismatched)


def write_merged(
    transaction: Transaction,
    models: Sequence[CommitModel],
    rule: Rule,
    *,
    progress: Callable[[int], object] | None = None,
) -> Oid:
    """Store the merged state as one tree and return its id; raises IntegrityError for damage.

    The models must have passed `check`. `progress` is called with 1 after each tensor.
    """
    first = models[0]
    entries = dict(component_entries(first.store, first.root))
    del entries["model"]
    entries.pop("optimizer", None)
    writer.reuse_entries(transaction, entries)
    merge = _Merge(transaction, models, rule, progress or (lambda count: None))
    entries["model"] = {"tree": str(merge.component())}
    return writer.write_root(transaction, entries)


@dataclass(slots=True)
class _Merge:
    """Writes the trees of the first model with merged tensors."""

    transaction: Transaction
    models: Sequence[CommitModel]
    rule: Rule
    progress: Callable[[int], object]

    def component(self) -> Oid:
        tree = self.models[0].component
        storages = []
        for number, node in enumerate(tree.storages):
            merged = self._merged([model.storage(number) for model in self.models])
            storages.append(merged["tensor"] if type(merged) is dict else node)
            self._keep(storages[-1])
        return self._tree(replace(tree, storages=tuple(storages)), "")

    def _tree(self, tree: Tree | ValueTree, path: str) -> Oid:
        if isinstance(tree, ValueTree):
            made: Tree | ValueTree = replace(tree, value=self._entry(tree.value, path))
        else:
            entries = {
                name: self._entry(node, f"{path}.{name}" if path else name)
                for name, node in tree.entries.items()
            }
            made = replace(tree, entries=entries)
        return self.transaction.put(Kind.TREE, made.to_bytes())

    def _entry(self, node: Json, path: str) -> Json:
        if type(node) is dict and node.keys() == {"tree"}:
            raw = self.models[0].store.read(Oid.parse(node["tree"]), Kind.TREE)
            return {"tree": str(self._tree(trees.parse(raw), path))}
        own = [model.tensors.get(path) for model in self.models]
        if type(node) is dict and node.keys() == {"tensor"} and own[0] is not None:
            merged: Json = None
            if own[0].memory is None:
                merged = self._merged([tensor for tensor in own if tensor is not None])
            self.progress(1)
            node = node if merged is None else merged
        self._keep(node)
        return node

    def _merged(self, parts: Sequence[ComponentTensor]) -> Json:
        """Store the weighted sum of one tensor; return None if the first model's is kept."""
        content = parts[0].content
        equal = all(part.content == content for part in parts)
        if equal or parts[0].dtype not in AVERAGED or not parts[0].elements:
            return None
        tensor = parts[0].load()
        whole = tensor.detach()
        aligned = [whole, *(torch.empty_like(whole).copy_(part.load()) for part in parts[1:])]
        flat = [each.as_strided((each.numel(),), (1,)) for each in aligned]
        _sum_into_first(flat, self.rule(flat))
        return writer.write_tensor(self.transaction, tensor, path=parts[0].name)

    def _keep(self, node: Json) -> None:
        writer.reuse_entries(self.transaction, {"": node})


def _sum_into_first(parts: Sequence[torch.Tensor], weights: Sequence[float]) -> None:
    """Write the weighted sum to the first part."""
    wide = torch.complex128 if parts[0].is_complex() else torch.float64
    for start in range(0, parts[0].numel(), _STRETCH):
        pieces = [part[start : start + _STRETCH] for part in parts]
        total = pieces[0].to(wide) * weights[0]
        for piece, weight in zip(pieces[1:], weights[1:], strict=True):
            total += piece.to(wide) * weight
        pieces[0].copy_(total)


def _product(one: torch.Tensor, other: torch.Tensor) -> float:
    wide = torch.complex128 if one.is_complex() else torch.float64
    total = 0.0
    for start in range(0, one.numel(), _STRETCH):
        a, b = (part[start : start + _STRETCH].to(wide) for part in (one, other))
        total += float(torch.vdot(a, b).real)
    return total


def _is_weight(name: str) -> bool:
    return _EXTRA not in name.split(".")


def _difference(
    first: CommitModel, tensor: ComponentTensor, other: CommitModel, twin: ComponentTensor | None
) -> str | None:
    if twin is None:
        return None
    if (tensor.dtype, tensor.shape) != (twin.dtype, twin.shape):
        return f"{_layout(tensor)} in {first.name}, {_layout(twin)} in {other.name}"
    if _memory_view(tensor) != _memory_view(twin) or _storage_layout(
        first, tensor
    ) != _storage_layout(other, twin):
        return f"it shares memory with other tensors than in {other.name}"
    dtype = tensor.dtype if tensor.memory is None else _storage_layout(first, tensor)[0]
    averaged = dtype in AVERAGED or not _is_fraction(tensor.dtype)
    if not averaged and tensor.content != twin.content:
        what = "shares memory with another dtype" if dtype != tensor.dtype else f"is {dtype}"
        return f"it {what}, which cannot be averaged"
    return None


def _memory_view(tensor: ComponentTensor) -> tuple[Json, ...]:
    fields = ("storage", "offset", "stride") if tensor.memory is not None else ("storage",)
    return tuple(tensor.node.get(field) for field in fields)


def _storage_layout(model: CommitModel, tensor: ComponentTensor) -> tuple[str, tuple[int, ...]]:
    if type(tensor.memory) is not int or tensor.memory >= len(model.component.storages):
        return "", ()
    storage = model.storage(tensor.memory)
    return storage.dtype, storage.shape


def _is_fraction(dtype: str) -> bool:
    found = DTYPES.get(dtype)
    return found is None or found.is_floating_point or found.is_complex


def _layout(tensor: ComponentTensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
