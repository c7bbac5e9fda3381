"""One state into one tree.

Goals: every chunk of the whole state goes through one pipeline (so that the workers never drain
between tensors), device memory is copied to the host a tensor at a time, and what did not change
keeps its tree id. Plan: encode every component to JSON with holes where chunk ids go; push all
chunks; fill the holes; write the trees, children first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradient.checkpoint.bases import Bases
from gradient.checkpoint.draft import Draft, Hole, NamedPart, Part, ValuePart, draft, encode, memory
from gradient.checkpoint.references import below, references
from gradient.codec.chunks import ranges
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree

if TYPE_CHECKING:
    import torch
    from typing_extensions import Buffer

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
    bases: Bases | None = None,
) -> Oid:
    """Store every component of a state as one tree and return the id of the root tree.

    `carried` are entries of another root tree that are taken over as they stand. Chunks may be
    stored as differences from those of `bases`. Live tensors are read until this returns. Raises
    UnsupportedValueError before anything is written.
    """
    return write_draft(transaction, draft(state), carried=carried, bases=bases)


def write_draft(
    transaction: Transaction,
    drafted: Draft,
    *,
    carried: Mapping[str, Json] | None = None,
    bases: Bases | None = None,
) -> Oid:
    """Store a state that was drafted before, as `write_state` does; may be repeated."""
    _fill(transaction, drafted.holes, bases)
    entries = dict(carried or {})
    keep(transaction, entries)
    for name, component in drafted.parts.items():
        entries[name] = {"tree": str(_write_component(transaction, component))}
    return write_root(transaction, entries)


def keep(transaction: Transaction, entries: Mapping[str, Json]) -> None:
    """Take over what the entries of a root tree stand on: chunks are looked up, trees put again.

    So nothing that lies in the trash alone is relied on.
    """
    for entry in entries.values():
        transaction.keep(_kept(transaction, entry))


def _kept(transaction: Transaction, entry: Json) -> Iterator[Oid]:
    pending = list(references(ValueTree(entry)))
    while pending:
        kind, oid = pending.pop()
        if kind is Kind.BLOB:
            yield oid
        else:
            body = transaction.read(oid, kind)
            transaction.put(kind, body)
            pending.extend(below(kind, body))


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


def _fill(transaction: Transaction, holes: list[Hole], bases: Bases | None = None) -> None:
    """Push all chunks through the transaction and put their ids into the waiting nodes."""
    for width in sorted({hole.width for hole in holes}):
        mine = [hole for hole in holes if hole.width == width]
        against = [_bases_of(hole, bases) for hole in mine]
        pushed = iter(_push(transaction, mine, against, width))
        for hole, tried in zip(mine, against, strict=True):
            oids = hole.stored
            if oids is None:
                oids = [next(pushed) for _ in tried]
            hole.written = oids
            if len(oids) > LISTED_CHUNKS:
                hole.node["list"] = str(transaction.put(Kind.LIST, b"".join(oids)))
            else:
                hole.node["chunks"] = [str(oid) for oid in oids]
            if bases is not None:
                written = [oid for oid, base in zip(oids, tried, strict=True) if base != oid]
                gained = sum(map(transaction.is_leaning, written))
                bases.learn(hole.path, tried=len(written) if any(tried) else 0, gained=gained)


def _push(
    transaction: Transaction, holes: list[Hole], against: list[Sequence[Oid | None]], width: int
) -> list[Oid]:
    """Keep the chunks that are stored, put the others, and return the ids of these."""
    fresh = [(hole, tried) for hole, tried in zip(holes, against, strict=True) if not hole.stored]
    for hole in holes:
        transaction.keep(hole.stored or (), width=width)
    return transaction.put_chunks(
        _chunks(hole for hole, _ in fresh),
        width=width,
        bases=[oid for _, tried in fresh for oid in tried],
    )


def _bases_of(hole: Hole, bases: Bases | None) -> Sequence[Oid | None]:
    """Return for each chunk of a hole the blob it may be stored as a difference from."""
    found = None if bases is None else bases.of(hole.path, hole.dtype, hole.nbytes)
    return [None for _ in ranges(hole.nbytes)] if found is None else found


def _chunks(holes: Iterable[Hole]) -> Iterator[Buffer]:
    """Yield the chunks of each hole; one hole's memory at a time is held for those before it."""
    for hole in holes:
        content = memory(hole.data)
        for start, stop in ranges(hole.nbytes):
            yield content[start:stop]


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
