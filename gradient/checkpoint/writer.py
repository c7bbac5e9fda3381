"""One state into one tree.

Goals: every chunk of the whole state goes through one pipeline (so that the workers never drain
between tensors), device memory is copied to the host a tensor at a time, and what did not change
keeps its tree id. Plan: encode every component to JSON with holes where chunk ids go; push all
chunks; fill the holes; write the trees, children first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradient.checkpoint import chunk_walk
from gradient.checkpoint.codec_cache import CodecCache
from gradient.checkpoint.delta_bases import DeltaBases
from gradient.checkpoint.draft import Draft, Hole, NamedPart, Part, ValuePart, draft, encode, memory
from gradient.codec.chunks import ranges
from gradient.errors import MalformedObjectError, UnsupportedValueError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.store.blob_batches import SMALL_BYTES, PendingBlob

if TYPE_CHECKING:
    import torch

    from gradient.store.transaction import Transaction

LISTED_CHUNKS = 64
"""A tensor of more chunks than this names a list object instead of the chunks."""

SUBTREE_BYTES = 4096
"""An entry of a component whose JSON is longer than this becomes a tree of its own."""


def write_state(
    transaction: Transaction,
    state: Mapping[str, Any],
    *,
    carried: Mapping[str, Json] | None = None,
    bases: DeltaBases | None = None,
    plans: CodecCache | None = None,
) -> Oid:
    """Store every component of a state as one tree and return the id of the root tree.

    `carried` are entries of another root tree that are taken over as they stand. Chunks may be
    stored as differences from those of `bases`; `plans` remembers what pays from one call to the
    next. Live tensors are read until this returns. Raises UnsupportedValueError before anything is
    written.
    """
    return write_draft(transaction, draft(state), carried=carried, bases=bases, plans=plans)


def write_draft(
    transaction: Transaction,
    drafted: Draft,
    *,
    carried: Mapping[str, Json] | None = None,
    bases: DeltaBases | None = None,
    plans: CodecCache | None = None,
) -> Oid:
    """Store a state that was drafted before, as `write_state` does; may be repeated.

    Raises UnsupportedValueError for a component whose values are too many for one tree.
    """
    _fill(transaction, drafted.holes, bases, plans)
    entries = dict(carried or {})
    keep(transaction, entries)
    for name, component in drafted.parts.items():
        try:
            entries[name] = {"tree": str(_write_component(transaction, component))}
        except MalformedObjectError as error:
            remedy = "Keep what is large in tensors, arrays or bytes, which are cut into chunks"
            raise UnsupportedValueError(name, str(error), remedy) from None
    return write_root(transaction, entries)


def keep(transaction: Transaction, entries: Mapping[str, Json]) -> None:
    """Take over what the entries of a root tree stand on: chunks are looked up, trees put again.

    So nothing that lies in the trash alone is relied on.
    """
    for entry in entries.values():
        transaction.keep(chunk_walk.blobs(transaction, entry, visit=transaction.put))


def write_root(transaction: Transaction, entries: Mapping[str, Json]) -> Oid:
    """Store a root tree: component names to their trees."""
    return transaction.put(Kind.TREE, Tree(dict(sorted(entries.items()))).to_bytes())


def write_value(transaction: Transaction, value: Any, *, name: str) -> Oid:
    """Store one plain value (an environment, hyperparameters) as a tree and return its id."""
    holes: list[Hole] = []
    component = encode(value, name, holes)
    _fill(transaction, holes)
    return _write_component(transaction, component)


def write_tensor(transaction: Transaction, tensor: torch.Tensor, *, path: str) -> Json:
    """Store the content of one tensor and return the entry that stands for it in a tree."""
    holes: list[Hole] = []
    part = encode(tensor, path, holes)
    assert isinstance(part, ValuePart)
    _fill(transaction, holes)
    return part.value


def replace_entries(
    transaction: Transaction, component: Tree, changed: Mapping[str, Any], *, name: str
) -> Oid | None:
    """Store a component that shares every entry with `component` except the changed ones.

    Returns None, having written nothing, where the new entries cannot stand beside the old: they
    share memory among themselves, or the component is grouped by module.
    """
    holes: list[Hole] = []
    encoded = encode(dict(changed), name, holes)
    if not isinstance(encoded, NamedPart) or encoded.storages or encoded.flat or component.flat:
        return None
    _fill(transaction, holes)
    entries = {**component.entries, **_settle(transaction, encoded).entries}
    tree = Tree(entries, component.type, storages=component.storages)
    return transaction.put(Kind.TREE, tree.to_bytes())


def _fill(
    transaction: Transaction,
    holes: list[Hole],
    bases: DeltaBases | None = None,
    plans: CodecCache | None = None,
) -> None:
    """Push all chunks through the transaction and put their ids into the waiting nodes."""
    for hole in holes:
        transaction.keep(hole.stored or (), width=hole.width)
    fresh = [hole for hole in holes if not hole.stored]
    large = [hole for hole in fresh if hole.nbytes > SMALL_BYTES]
    small = [hole for hole in fresh if hole.nbytes <= SMALL_BYTES]
    known = plans or CodecCache()
    stored = iter(transaction.store(_pieces(large, bases, known), _pieces(small, bases, known)))
    for hole in (*large, *small):
        done = [next(stored) for _ in ranges(hole.nbytes)]
        hole.written = [each.oid for each in done]
        if plans is not None:
            plans.learn(hole.path, [each.plan for each in done])
    for hole in holes:
        oids = hole.written = hole.stored or hole.written
        if len(oids) > LISTED_CHUNKS:
            hole.node["list"] = str(transaction.put(Kind.LIST, b"".join(oids)))
        else:
            hole.node["chunks"] = [str(oid) for oid in oids]


def _pieces(
    holes: Iterable[Hole], bases: DeltaBases | None, plans: CodecCache
) -> Iterator[PendingBlob]:
    """Yield the chunks of each hole; one hole's memory at a time is held for those before it."""
    for hole in holes:
        spans = list(ranges(hole.nbytes))
        found = None if bases is None else bases.of(hole.path, hole.dtype, hole.nbytes)
        against: Sequence[Oid | None] = found or [None] * len(spans)
        planned = plans.of(hole.path, len(spans))
        content = memory(hole.data)
        for (start, stop), base, plan in zip(spans, against, planned, strict=True):
            pays = plan is None or plan.leans is not False
            yield PendingBlob(content[start:stop], hole.width, base if pays else None, plan)


def _write_component(transaction: Transaction, component: Part) -> Oid:
    if isinstance(component, ValuePart):
        tree: Tree | ValueTree = ValueTree(component.value, tuple(component.storages))
    else:
        tree = _settle(transaction, component)
    return transaction.put(Kind.TREE, tree.to_bytes())


def _settle(transaction: Transaction, component: NamedPart) -> Tree:
    """Write the trees below a component, children first, and return the component's own."""
    entries: dict[str, Json] = {}
    for name, item in component.entries.items():
        if isinstance(item, NamedPart):
            entries[name] = {"tree": str(_write_component(transaction, item))}
        elif not component.flat and len(canonical.dumps(item)) > SUBTREE_BYTES:
            oid = _write_component(transaction, _subtree(item))
            entries[name] = {"tree": str(oid)}
        else:
            entries[name] = item
    return Tree(entries, component.type, component.flat, tuple(component.storages))


def _subtree(item: Json) -> Part:
    """Turn a long value into a tree; a mapping with names keeps them visible as entries."""
    if type(item) is dict and len(item) == 1:
        ((tag, pairs),) = item.items()
        if tag in ("dict", "OrderedDict") and type(pairs) is list:
            named: dict[str, Any] = {}
            for pair in pairs:
                if type(pair) is list and type(pair[0]) is str:
                    named[pair[0]] = pair[1]
            if len(named) == len(pairs):
                return NamedPart(named, tag, flat=False, storages=[])
    return ValuePart(item, [])
