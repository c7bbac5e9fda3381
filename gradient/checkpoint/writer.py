"""Writing one state as one tree.

Goals: all chunks of the state go through one pipeline, so that the workers are never idle between
tensors; device memory is copied to the host one tensor at a time; unchanged parts keep their tree
ids. Plan: encode every component as JSON with slots for chunk ids; store all chunks; fill the
slots; write the trees, children first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradient.checkpoint import chunk_walk
from gradient.checkpoint.codec_cache import CodecCache
from gradient.checkpoint.delta_bases import DeltaBases
from gradient.checkpoint.draft import (
    Draft,
    NamedPart,
    Part,
    Slot,
    ValuePart,
    draft,
    encode,
    memory,
)
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
"""A tensor of more chunks than this refers to a list object instead of the chunks."""

SUBTREE_BYTES = 4096
"""An entry of a component whose JSON is longer than this becomes a tree of its own."""


def write_state(
    transaction: Transaction,
    state: Mapping[str, Any],
    *,
    carried: Mapping[str, Json] | None = None,
    delta_bases: DeltaBases | None = None,
    codec_cache: CodecCache | None = None,
) -> Oid:
    """Store all components of a state as one tree and return the id of the root tree.

    The entries in `carried` come from another root tree and are reused unchanged. Chunks may be
    stored as differences from the chunks of `delta_bases`. `codec_cache` keeps each chunk's coding
    plan for the next call. Live tensors are read until this function returns. Raises
    UnsupportedValueError before anything is written.
    """
    return write_draft(
        transaction, draft(state), carried=carried, delta_bases=delta_bases, codec_cache=codec_cache
    )


def write_draft(
    transaction: Transaction,
    drafted: Draft,
    *,
    carried: Mapping[str, Json] | None = None,
    delta_bases: DeltaBases | None = None,
    codec_cache: CodecCache | None = None,
) -> Oid:
    """Store a drafted state as `write_state` does; may be called again after a failure.

    Raises UnsupportedValueError for a component with too many values for one tree.
    """
    _write_contents(transaction, drafted.slots, delta_bases, codec_cache)
    entries = dict(carried or {})
    reuse_entries(transaction, entries)
    for name, component in drafted.parts.items():
        try:
            entries[name] = {"tree": str(_write_component(transaction, component))}
        except MalformedObjectError as error:
            remedy = "Keep what is large in tensors, arrays or bytes, which are cut into chunks"
            raise UnsupportedValueError(name, str(error), remedy) from None
    return write_root(transaction, entries)


def reuse_entries(transaction: Transaction, entries: Mapping[str, Json]) -> None:
    """Reuse the objects that entries of a root tree refer to: look up blobs, put trees again.

    So the commit does not rely on objects that exist only in the trash.
    """
    for entry in entries.values():
        transaction.reuse(chunk_walk.blobs(transaction, entry, visit=transaction.put))


def write_root(transaction: Transaction, entries: Mapping[str, Json]) -> Oid:
    """Store a root tree: component names to their trees."""
    return transaction.put(Kind.TREE, Tree(dict(sorted(entries.items()))).to_bytes())


def write_value(transaction: Transaction, value: Any, *, name: str) -> Oid:
    """Store one plain value (an environment, hyperparameters) as a tree and return its id."""
    slots: list[Slot] = []
    component = encode(value, name, slots)
    _write_contents(transaction, slots)
    return _write_component(transaction, component)


def write_tensor(transaction: Transaction, tensor: torch.Tensor, *, path: str) -> Json:
    """Store the content of one tensor and return its node for a tree."""
    slots: list[Slot] = []
    part = encode(tensor, path, slots)
    assert isinstance(part, ValuePart)
    _write_contents(transaction, slots)
    return part.value


def replace_entries(
    transaction: Transaction, component: Tree, changed: Mapping[str, Any], *, name: str
) -> Oid | None:
    """Store a component with the entries of `component`, some of them replaced; return its id.

    Returns None and writes nothing if the new entries cannot be combined with the old ones,
    because they share memory with each other or because the component is grouped by module.
    """
    slots: list[Slot] = []
    encoded = encode(dict(changed), name, slots)
    if not isinstance(encoded, NamedPart) or encoded.storages or encoded.flat or component.flat:
        return None
    _write_contents(transaction, slots)
    entries = {**component.entries, **_write_subtrees(transaction, encoded).entries}
    tree = Tree(entries, component.type, storages=component.storages)
    return transaction.put(Kind.TREE, tree.to_bytes())


def _write_contents(
    transaction: Transaction,
    slots: list[Slot],
    delta_bases: DeltaBases | None = None,
    codec_cache: CodecCache | None = None,
) -> None:
    """Store all chunks through the transaction and write their ids to the slots' nodes."""
    for slot in slots:
        transaction.reuse(slot.stored or (), width=slot.width)
    fresh = [slot for slot in slots if not slot.stored]
    large = [slot for slot in fresh if slot.nbytes > SMALL_BYTES]
    small = [slot for slot in fresh if slot.nbytes <= SMALL_BYTES]
    known = codec_cache or CodecCache()
    stored = iter(
        transaction.put_blobs(
            _pending_blobs(large, delta_bases, known), _pending_blobs(small, delta_bases, known)
        )
    )
    for slot in (*large, *small):
        done = [next(stored) for _ in ranges(slot.nbytes)]
        slot.written = [each.oid for each in done]
        if codec_cache is not None:
            codec_cache.put(slot.path, [each.plan for each in done])
    for slot in slots:
        oids = slot.written = slot.stored or slot.written
        if len(oids) > LISTED_CHUNKS:
            slot.node["list"] = str(transaction.put(Kind.LIST, b"".join(oids)))
        else:
            slot.node["chunks"] = [str(oid) for oid in oids]


def _pending_blobs(
    slots: Iterable[Slot], delta_bases: DeltaBases | None, codec_cache: CodecCache
) -> Iterator[PendingBlob]:
    """Yield the chunks of each slot, reading the memory of one slot at a time."""
    for slot in slots:
        spans = list(ranges(slot.nbytes))
        found = (
            None if delta_bases is None else delta_bases.chunks(slot.path, slot.dtype, slot.nbytes)
        )
        against: Sequence[Oid | None] = found or [None] * len(spans)
        planned = codec_cache.get(slot.path, len(spans))
        content = memory(slot.data)
        for (start, stop), base, plan in zip(spans, against, planned, strict=True):
            pays = plan is None or plan.prefers_delta is not False
            yield PendingBlob(content[start:stop], slot.width, base if pays else None, plan)


def _write_component(transaction: Transaction, component: Part) -> Oid:
    if isinstance(component, ValuePart):
        tree: Tree | ValueTree = ValueTree(component.value, tuple(component.storages))
    else:
        tree = _write_subtrees(transaction, component)
    return transaction.put(Kind.TREE, tree.to_bytes())


def _write_subtrees(transaction: Transaction, component: NamedPart) -> Tree:
    """Write the trees below a component, children first, and return the component's tree."""
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
    """Turn a long value into a tree; the names of a mapping become its entries."""
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
