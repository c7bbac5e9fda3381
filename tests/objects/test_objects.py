"""Ids, trees and commits: golden bytes, round trips, malformed bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradient.errors import MalformedObjectError
from gradient.objects import canonical, tree
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree

A, B = Oid(bytes(range(32))), Oid(bytes(32))

GOLDEN_IDS = {
    Kind.BLOB: "c174a8d473f354196b26b42bf949cbd572a2a7fb584bcb7818615ab91b1e45fb",
    Kind.LIST: "9466d26a68aa687f2737be0026d318b2141945bc1e14873c6bd187332041e9da",
    Kind.TREE: "621968df4311606991d8d6e7867d0229f5e217817857ab3f4cfd5e770e484ca0",
    Kind.COMMIT: "0e1df045732c6fe2e66d8c5594d946a664bf488bb345ad2040746ad1a57c4606",
}

OIDS = st.binary(min_size=32, max_size=32).map(Oid)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
COMMITS = st.builds(
    CommitRecord,
    tree=OIDS,
    parents=st.lists(OIDS, max_size=3).map(tuple),
    anchor=st.none() | OIDS,
    step=st.integers(0, 2**53 - 1),
    branch=TEXT,
    time=TEXT,
    message=TEXT,
    metrics=st.dictionaries(TEXT, st.integers() | st.floats(allow_nan=False), max_size=3),
    environment=st.none() | OIDS,
    hparams=st.none() | OIDS,
    fork=st.none() | OIDS,
    finite=st.none() | st.booleans(),
)


@pytest.mark.parametrize("kind", Kind)
def test_the_id_of_a_known_object(kind: Kind) -> None:
    assert str(Oid.of(kind, b"gradient")) == GOLDEN_IDS[kind]


def test_an_id_depends_on_the_kind_and_the_length() -> None:
    assert len({Oid.of(kind, body) for kind in Kind for body in (b"", b"\0", b"\0\0")}) == 12


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "A" * 64, " " + "a" * 63, None, 5])
def test_other_text_is_not_an_id(text: object) -> None:
    with pytest.raises(MalformedObjectError):
        Oid.parse(text)


GOLDEN_COMMIT = (
    b'{"anchor":"%(a)s","branch":"main","environment":"%(b)s","message":"first",'
    b'"metrics":{"loss":2.5,"worst":{"float":"7ff0000000000000"}},"parents":["%(a)s"],"step":100,'
    b'"time":"2026-02-10T12:34:56.000000","tree":"%(b)s"}'
) % {b"a": A.hex().encode(), b"b": B.hex().encode()}


def test_a_commit_has_these_bytes() -> None:
    commit = CommitRecord(
        tree=B,
        parents=(A,),
        anchor=A,
        step=100,
        branch="main",
        time="2026-02-10T12:34:56.000000",
        message="first",
        metrics={"worst": float("inf"), "loss": 2.5},
        environment=B,
    )
    assert commit.to_bytes() == GOLDEN_COMMIT
    assert CommitRecord.from_bytes(GOLDEN_COMMIT) == commit


def test_a_commit_records_whether_its_weights_are_finite() -> None:
    commit = CommitRecord.from_bytes(GOLDEN_COMMIT)
    assert commit.finite is None
    for finite, text in ((True, b"true"), (False, b"false")):
        raw = GOLDEN_COMMIT.replace(b'"message"', b'"finite":%s,"message"' % text)
        assert CommitRecord.from_bytes(raw) == replace(commit, finite=finite)
        assert replace(commit, finite=finite).to_bytes() == raw


@given(COMMITS)
def test_commits_survive_the_round_trip(commit: CommitRecord) -> None:
    assert CommitRecord.from_bytes(commit.to_bytes()) == commit


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"step":100', b'"step":-1'),
        (b'"step":100', b'"step":1.5'),
        (b'"step":100', b'"step":true'),
        (b'"step":100', b'"step":9007199254740992'),
        (b'"parents":[', b'"parents":[7,'),
        (b'"branch":"main"', b'"branch":7'),
        (b'"branch":"main",', b""),
        (b'"message"', b'"massage"'),
        (b'"message"', b'"finite":1,"message"'),
        (b'"message"', b'"finite":null,"message"'),
        (b'"loss":2.5', b'"loss":"2.5"'),
        (b'"loss":2.5', b'"loss":2.50'),
        (b'"anchor":"0', b'"anchor":"x'),
    ],
)
def test_a_malformed_commit_is_refused(old: bytes, new: bytes) -> None:
    assert old in GOLDEN_COMMIT
    with pytest.raises(MalformedObjectError):
        CommitRecord.from_bytes(GOLDEN_COMMIT.replace(old, new))


def test_a_tree_has_these_bytes() -> None:
    raw = Tree({"b": {"tree": str(A)}, "a": 1.5}, "OrderedDict", flat=True).to_bytes()
    assert raw == (
        b'{"entries":{"a":1.5,"b":{"tree":"%s"}},"flat":true,"order":[1,0],"type":"OrderedDict"}'
        % A.hex().encode()
    )
    assert list(tree.parse(raw).entries) == ["b", "a"]  # type: ignore[union-attr]


@given(st.dictionaries(TEXT, st.integers(0, 9)), st.booleans(), st.booleans())
def test_trees_survive_the_round_trip(entries: dict[str, int], ordered: bool, flat: bool) -> None:
    one = Tree(dict(entries), "OrderedDict" if ordered else "dict", flat, (1,) if flat else ())
    again = tree.parse(one.to_bytes())
    assert again == one
    assert list(again.entries) == list(entries)  # type: ignore[union-attr]


def test_value_trees_survive_the_round_trip() -> None:
    one = ValueTree([1, {"tuple": []}], ({"x": 1},))
    assert tree.parse(one.to_bytes()) == one


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"entries": []},
        {"entries": {}, "value": 1},
        {"entries": {}, "type": "dict"},
        {"entries": {}, "type": "set"},
        {"entries": {}, "flat": False},
        {"entries": {}, "flat": 1},
        {"entries": {"a": 1}, "order": [0]},
        {"entries": {"a": 1, "b": 2}, "order": [1, 1]},
        {"entries": {"a": 1, "b": 2}, "order": [True, False]},
        {"entries": {"a": 1, "b": 2}, "order": [0, 7]},
        {"entries": {"a": 1, "b": 2}, "order": [-1, 0]},
        {"entries": {"a": 1}, "colour": "red"},
        {"value": 1, "colour": "red"},
        {"value": 1, "storages": []},
        {"entries": {}, "storages": {}},
        {"entries": {}, "storages": []},
        {"value": 1, "flat": True},
    ],
)
def test_a_malformed_tree_is_refused(body: canonical.Json) -> None:
    with pytest.raises(MalformedObjectError):
        tree.parse(canonical.dumps(body))


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33)])
def test_an_id_has_32_bytes(raw: bytes) -> None:
    with pytest.raises(MalformedObjectError):
        Oid(raw)
