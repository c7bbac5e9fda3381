"""What a tree stands on is found whole, and nothing that a user wrote is mistaken for it."""

from __future__ import annotations

import pytest
import torch

from gradient.checkpoint import writer
from gradient.checkpoint.references import parse_list, references
from gradient.codec.mode import Mode
from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.storage.memory import MemoryStorage
from gradient.store.object_store import ObjectStore

ONE, OTHER = Oid(bytes([1]) * 32), Oid(bytes([2]) * 32)


def reachable(store: ObjectStore, root: Oid) -> set[Oid]:
    found, pending = {root}, [(Kind.TREE, root)]
    while pending:
        kind, oid = pending.pop()
        below: list[tuple[Kind, Oid]] = []
        if kind is Kind.TREE:
            below = list(references(trees.parse(store.read(oid, kind))))
        elif kind is Kind.LIST:
            below = [(Kind.BLOB, blob) for blob in parse_list(store.read(oid, kind))]
        pending += below
        found |= {oid for _, oid in below}
    return found


def test_every_object_of_a_state_is_reached_and_no_other() -> None:
    tied = torch.randn(400)
    state = {
        "model": {f"block{i}.w": torch.randn(100) for i in range(200)} | {"a.t": tied, "b.t": tied},
        "large": {"w": torch.zeros(65 << 20, dtype=torch.uint8)},
        "rng": {"chunks": ["x"], "tree": str(ONE), "list": [bytes(500)], "n": {"tree": str(ONE)}},
        "deep": [{"a": (torch.ones(99),)}] * 3,
    }
    store = ObjectStore(MemoryStorage(), workers=1)
    with store.begin(mode=Mode.AUTO) as transaction:
        root = writer.write_state(transaction, state)
        transaction.seal()
    found = reachable(store, root)
    assert all(oid in store for oid in found)
    assert len(found) == store.stats().objects


def test_names_of_entries_are_nobodys_keywords() -> None:
    entries = {"chunks": 1, "tree": "x", "list": [str(ONE)]}
    assert list(references(Tree(entries))) == []
    assert list(references(Tree({"tree": {"tree": str(ONE)}}))) == [(Kind.TREE, ONE)]
    stored = ValueTree([{"nbytes": 9, "chunks": [str(ONE), str(OTHER)]}], ({"list": str(ONE)},))
    assert set(references(stored)) == {(Kind.BLOB, ONE), (Kind.BLOB, OTHER), (Kind.LIST, ONE)}


@pytest.mark.parametrize("node", [{"tree": "x"}, {"chunks": 5}, {"chunks": ["x"]}, {"list": None}])
def test_an_id_that_is_none_is_malformed(node: object) -> None:
    with pytest.raises(MalformedObjectError):
        list(references(ValueTree(node)))  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(65)])
def test_a_list_is_whole_ids(raw: bytes) -> None:
    with pytest.raises(MalformedObjectError):
        parse_list(raw)
    assert parse_list(bytes(ONE) + bytes(OTHER)) == [ONE, OTHER]
