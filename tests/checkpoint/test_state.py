"""Whole states through a store and back: every bit, every tie, every order; and stable ids."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradient.checkpoint import chunk_walk, reader, subtree_grouping, writer
from gradient.codec.mode import Mode
from gradient.errors import MissingObjectError, UnsupportedValueError
from gradient.objects import canonical
from gradient.objects.oid import Kind, Oid
from gradient.storage.memory import MemoryStorage
from gradient.store.object_store import ObjectStore
from tests.state.value_roundtrip import same
from tests.strategies import tensors, values

CHUNK = 1 << 20

names = st.one_of(
    st.sampled_from(
        ["", ".", "a", "a.b", "a.b.c", "b.a", "tree", "chunks", "data", "\0", "é", "/"]
    ),
    st.text(max_size=5),
)


def make() -> ObjectStore:
    return ObjectStore(MemoryStorage(), workers=2)


def write(store: ObjectStore, state: dict[str, Any], mode: Mode = Mode.AUTO) -> tuple[Oid, int]:
    """Write a state; returns its tree and the bytes that were added."""
    with store.begin(mode=mode) as transaction:
        oid = writer.write_state(transaction, state)
        written = transaction.written
        transaction.seal()
    return oid, written


def through(state: dict[str, Any], mode: Mode = Mode.AUTO) -> dict[str, Any]:
    store = make()
    return reader.read_state(store, write(store, state, mode)[0])


def check(state: dict[str, Any]) -> None:
    for mode in Mode:
        found = through(state, mode)
        assert list(found) == sorted(state)
        assert same({name: found[name] for name in state}, state), mode


# -- Bits ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.dictionaries(names, st.one_of(values(), st.dictionaries(names, values(), max_size=4))))
def test_any_state_comes_back(state: dict[str, Any]) -> None:
    found = through(state)
    assert same({name: found[name] for name in state}, state)


@settings(max_examples=60)
@given(st.lists(st.tuples(names, tensors()), max_size=12, unique_by=lambda pair: pair[0]))
def test_any_state_dict_comes_back_in_its_order(pairs: list[tuple[str, torch.Tensor]]) -> None:
    state = {"model": OrderedDict(pairs), "plain": dict(pairs[::-1])}
    found = through(state)
    assert same(found["model"], state["model"])
    assert same(found["plain"], state["plain"])


@pytest.mark.parametrize("elements", [0, 1, 64, 65, CHUNK // 4 - 1, CHUNK // 4, CHUNK // 4 + 1])
def test_a_tensor_of_any_length_is_cut_and_joined(elements: int) -> None:
    check({"model": {"w": torch.randn(elements)}})


def test_large_arrays_and_bytes_are_cut_as_well() -> None:
    check({"x": np.arange(300_000), "y": bytes(range(256)) * 5000, "z": bytearray(257)})


def test_layouts_come_back() -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    permuted = torch.randn(7, 80).t()
    found = through({"model": {"image": image, "permuted": permuted, "scalar": torch.tensor(2.5)}})
    assert found["model"]["image"].is_contiguous(memory_format=torch.channels_last)
    assert found["model"]["permuted"].stride() == (1, 80)
    check({"model": {"image": image, "permuted": permuted, "slice": torch.randn(9, 9)[::2, 1:]}})


# -- Shared memory ------------------------------------------------------------------------------


def pointer(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_tied_weights_are_stored_once_and_come_back_tied() -> None:
    weight = torch.nn.Parameter(torch.randn(500, 500))
    state = {
        "model": OrderedDict({"wte.weight": weight, "norm": torch.ones(3), "head.weight": weight})
    }
    store = make()
    oid, written = write(store, state, Mode.OFF)
    assert written < weight.nbytes * 1.1
    model = reader.read_state(store, oid)["model"]
    assert same(model, state["model"])
    assert pointer(model["wte.weight"]) == pointer(model["head.weight"])
    with torch.no_grad():
        model["wte.weight"].zero_()
    assert float(model["head.weight"].detach().abs().sum()) == 0


def test_overlapping_views_come_back_as_views_of_one_memory() -> None:
    flat = torch.arange(100.0)
    state = {
        "a": flat[:60].view(6, 10),
        "b": flat[40:],
        "strided": flat[1:50:7],
        "bits": flat[10:20].view(torch.int32),
        "apart": torch.arange(5.0),
    }
    found = through({"model": state})["model"]
    assert same({k: found[k] for k in state}, state)
    found["a"][5, 0] = -1.0
    assert float(found["b"][10]) == -1.0
    assert pointer(found["a"]) == pointer(found["bits"]) == pointer(found["strided"])
    assert pointer(found["apart"]) != pointer(found["a"])


def test_views_that_only_touch_are_apart() -> None:
    flat = torch.arange(100.0)
    found = through({"model": {"a": flat[:50], "b": flat[50:]}})["model"]
    assert pointer(found["a"]) != pointer(found["b"])


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40),
            st.integers(1, 6),
            st.integers(1, 4),
            st.integers(0, 3),
            st.sampled_from([torch.float32, torch.int16, torch.uint8, torch.complex64]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_windows_on_one_memory_come_back(windows: list[tuple[Any, ...]]) -> None:
    memory = torch.arange(256, dtype=torch.uint8).repeat(8)
    state = {}
    for number, (start, rows, columns, step, dtype) in enumerate(windows):
        typed = memory.view(dtype)
        state[f"w{number}"] = torch.as_strided(typed, (rows, columns), (step, 1), start)
    found = through({"model": state})["model"]
    for name, window in state.items():
        assert found[name].contiguous().numpy().tobytes() == window.contiguous().numpy().tobytes()
        assert (found[name].dtype, found[name].shape) == (window.dtype, window.shape)


def test_sharing_between_components_is_by_content_alone() -> None:
    weight = torch.randn(1000)
    store = make()
    oid, written = write(store, {"model": {"w": weight}, "ema": {"w": weight}}, Mode.OFF)
    assert written < 1.5 * weight.nbytes
    state = reader.read_state(store, oid)
    assert pointer(state["model"]["w"]) != pointer(state["ema"]["w"])


# -- Ids ----------------------------------------------------------------------------------------


def entries(store: ObjectStore, root: Oid) -> dict[str, Any]:
    return dict(reader.component_entries(store, root))


def test_modules_of_any_depth_come_back() -> None:
    state = {}
    for depth in (49, 50, 51, 99, 200):
        path = ".".join(["inner"] * depth)
        state |= {
            f"{depth}.{path}.{n}": torch.full((2,), n) for n in range(subtree_grouping.SPLIT + 1)
        }
    check({"model": state})


def test_equal_states_have_equal_ids_whatever_the_mode() -> None:
    torch.manual_seed(1)
    state = {"model": {"a.w": torch.randn(900), "b.w": torch.zeros(70_000)}, "x": [1, 2.5, None]}
    assert len({write(make(), state, mode)[0] for mode in Mode}) == 1
    assert write(make(), dict(reversed(state.items())))[0] == write(make(), state)[0]


def test_a_component_that_did_not_change_keeps_its_id() -> None:
    store = make()
    state: dict[str, Any] = {"model": {"a.w": torch.randn(99), "b.w": torch.randn(99)}, "rng": [1]}
    first, _ = write(store, state)
    state["rng"] = [2]
    second, _ = write(store, state)
    before, after = entries(store, first), entries(store, second)
    assert before["model"] == after["model"]
    assert before["rng"] != after["rng"]


def test_only_the_modules_that_changed_are_written_again() -> None:
    torch.manual_seed(0)
    model = {f"block{i}.weight": torch.randn(1 << 18) for i in range(8)}
    store = make()
    _, whole = write(store, {"model": model}, Mode.OFF)
    model["block3.weight"] = torch.randn(1 << 18)
    _, again = write(store, {"model": model}, Mode.OFF)
    assert whole > 8 << 20
    assert again < (1 << 20) + (8 << 10)
    _, nothing = write(store, {"model": model}, Mode.OFF)
    assert nothing == 0


def test_a_frozen_base_costs_nothing_the_second_time() -> None:
    torch.manual_seed(0)
    base = torch.nn.Sequential(*(torch.nn.Linear(400, 400) for _ in range(4)))
    head = torch.nn.Linear(400, 40)
    store = make()
    write(store, {"model": dict(torch.nn.ModuleDict({"base": base, "head": head}).state_dict())})
    with torch.no_grad():
        head.weight.normal_()
    state = torch.nn.ModuleDict({"base": base, "head": head}).state_dict()
    _, written = write(store, {"model": dict(state)})
    assert written < head.weight.nbytes + (16 << 10)


def test_more_than_64_chunks_are_listed_apart() -> None:
    at = torch.zeros(64 * CHUNK, dtype=torch.uint8)
    beyond = torch.zeros(65 * CHUNK, dtype=torch.uint8)
    beyond[-1] = 1
    store = make()
    oid, _ = write(store, {"model": {"at": at, "beyond": beyond}})
    nodes: dict[str, Any] = {
        content.path: content.node for content in chunk_walk.contents(store, oid)
    }
    assert len(nodes["model.at"]["chunks"]) == 64
    assert nodes["model.beyond"].keys() == {"dtype", "shape", "nbytes", "list"}
    raw = store.read(Oid.parse(nodes["model.beyond"]["list"]), Kind.LIST)
    assert len(raw) == 65 * 32
    assert torch.equal(reader.read_state(store, oid)["model"]["beyond"], beyond)


def test_golden_trees() -> None:
    state = {
        "model": OrderedDict(
            {
                "b.weight": torch.tensor([1.0, -0.0, float("inf")]),
                "b.bias": torch.tensor(1, dtype=torch.uint8),
                "a": torch.arange(300, dtype=torch.int16),
            }
        ),
        "rng": {"n": 1 << 70, "t": (1, None), 5: [b"\x00"]},
    }
    store = make()
    oid, _ = write(store, state)
    assert store.read(oid, Kind.TREE) == ROOT
    trees = entries(store, oid)
    assert store.read(Oid.parse(trees["model"]["tree"]), Kind.TREE) == MODEL
    assert Oid.of(Kind.TREE, MODULE).hex().encode() in MODEL
    assert Oid.of(Kind.TREE, MODULE) in store
    assert store.read(Oid.parse(trees["rng"]["tree"]), Kind.TREE) == RNG


# -- Parts and refusals -------------------------------------------------------------------------


def test_components_can_be_read_alone_and_be_missing() -> None:
    store = make()
    oid, _ = write(store, {"a": 1, "b": {"x": torch.ones(500)}})
    assert reader.read_state(store, oid, components=["a"]) == {"a": 1}
    with pytest.raises(MissingObjectError, match="'c'"):
        reader.read_state(store, oid, components=["c"])


def test_entries_can_be_carried_into_another_tree() -> None:
    store = make()
    state = {"a": torch.ones(500), "b": torch.zeros(500)}
    first, _ = write(store, state)
    with store.begin(mode=Mode.AUTO) as transaction:
        carried = {"a": entries(store, first)["a"]}
        second = writer.write_state(transaction, {"b": state["b"]}, carried=carried)
        transaction.seal()
    assert second == first


REFUSED = {
    "sparse": torch.eye(3).to_sparse(),
    "meta": torch.empty(3, device="meta"),
    "nested": torch.nested.as_nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "object": object(),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_stored_is_refused_by_name_and_nothing_is_written(kind: str) -> None:
    store = make()
    state = {"model": {"first": torch.randn(999), "layer.bad": [1, REFUSED[kind]]}}
    with store.begin(mode=Mode.AUTO) as transaction:
        with pytest.raises(UnsupportedValueError) as caught:
            writer.write_state(transaction, state)
        assert caught.value.path == "model.layer.bad[1]"
        assert transaction.written == 0


def test_what_is_too_large_for_a_tree_is_refused_by_name() -> None:
    state = {"seen": {"words": ["x" * canonical.MAX_BYTES]}}
    with (
        make().begin(mode=Mode.AUTO) as transaction,
        pytest.raises(UnsupportedValueError, match=r"seen: object of .* Keep what is large"),
    ):
        writer.write_state(transaction, state)


ROOT = (
    b'{"entries":{'
    b'"model":{"tree":"f16e6158230e653e2ed7127fced0fa23751cb3cb24248abee77a2999a597c1ca"},'
    b'"rng":{"tree":"7d26c45143477d8fab935e650bdefe8456c07df3eebf5ff7054232426c97baaf"}}}'
)
MODEL = (
    b'{"entries":{"a":{"tensor":{"chunks":'
    b'["010501cb0eb291716cbe75a49046e47f33bbaf063cb28ca9b52f7717ea569a3d"],'
    b'"dtype":"int16","nbytes":600,"shape":[300]}},'
    b'"b":{"tree":"63228365efd28fd267fe4ba87c82429208e5ba085b1ece021ca40029179d2af4"}},'
    b'"flat":true,"order":[1,0],"type":"OrderedDict"}'
)
MODULE = (
    b'{"entries":{"bias":{"tensor":{"data":"01","dtype":"uint8","shape":[]}},'
    b'"weight":{"tensor":{"data":"0000803f000000800000807f","dtype":"float32","shape":[3]}}},'
    b'"flat":true,"order":[1,0]}'
)
RNG = (
    b'{"value":{"dict":[["n",{"int":"0x400000000000000000"}],'
    b'["t",{"tuple":[1,null]}],[5,[{"bytes":"00"}]]]}}'
)
