from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from gradient.checkpoint.component_tensors import ComponentTensor, tensors_in
from gradient.checkpoint.diff import StateDiff, TensorChange, compare, layer_of
from gradient.checkpoint.reader import component_entries
from gradient.checkpoint.tensor_distance import Sums
from gradient.checkpoint.writer import write_state
from gradient.codec.mode import Mode
from gradient.objects.oid import Oid
from gradient.storage.directory import DirectoryStorage
from gradient.store.object_store import ObjectStore

NAN, INF = float("nan"), float("inf")

PAIRS: dict[str, tuple[torch.Tensor, torch.Tensor]] = {
    "float32": (torch.arange(1.0, 101.0), torch.arange(1.0, 101.0) + torch.eye(10).view(-1)),
    "bfloat16": (torch.randn(50).bfloat16(), torch.randn(50).bfloat16()),
    "float64": (torch.randn(7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)),
    "int64": (torch.arange(9), torch.arange(9) * 2),
    "bool": (torch.tensor([True, False, True]), torch.tensor([True, True, False])),
    "uint8": (torch.tensor([255, 3]).byte(), torch.tensor([0, 7]).byte()),
    "complex64": (torch.tensor([1 + 2j, 3j]), torch.tensor([1 + 2j, 4 + 0j])),
    "retyped": (torch.ones(4), torch.tensor([1, 1, 1, 2]).bfloat16()),
    "to complex": (torch.ones(2), torch.tensor([1 + 0j, 1 + 1j])),
}


@pytest.mark.parametrize("name", PAIRS)
def test_figures_are_those_of_torch(name: str) -> None:
    one, other = PAIRS[name]
    sums = Sums()
    for start in range(0, one.numel(), 3):
        sums.add(one[start : start + 3], other[start : start + 3])
    a, b = one.to(torch.complex128), other.to(torch.complex128)
    product = (a.conj() * b).real.sum() / (a.abs().norm() * b.abs().norm())
    assert sums.relative == pytest.approx(float((b - a).abs().norm() / a.abs().norm()))
    assert sums.max_abs == pytest.approx(float((b - a).abs().max()))
    assert sums.cosine == pytest.approx(float(product))
    assert sums.changed == int((a != b).sum())
    assert sums.fraction == pytest.approx(int((a != b).sum()) / one.numel())


def test_what_is_not_finite_is_counted_and_left_out_of_the_norms() -> None:
    one = torch.tensor([1.0, NAN, INF, 2.0, NAN])
    other = torch.tensor([1.0, NAN, 3.0, 4.0, 5.0])
    sums = Sums()
    sums.add(one, other)
    assert (sums.not_finite_before, sums.not_finite_after) == (3, 1)
    assert sums.changed == 3
    assert sums.max_abs == 2.0
    assert sums.relative == math.inf
    same = Sums()
    same.add(one, torch.tensor([1.0, NAN, INF, 4.0, INF]))
    assert (same.not_finite_before, same.not_finite_after) == (3, 3)
    assert same.relative == pytest.approx(2 / math.sqrt(5))


def test_bits_decide_what_changed() -> None:
    sums = Sums()
    sums.add(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    assert (sums.changed, sums.relative, sums.max_abs) == (1, 0.0, 0.0)


def test_large_integers_are_not_rounded() -> None:
    sums = Sums()
    sums.add(torch.tensor([1 << 60, 5]), torch.tensor([(1 << 60) + 1, 5]))
    assert (sums.changed, sums.max_abs) == (1, 1.0)
    far = Sums()
    far.add(torch.tensor([-(1 << 62)]), torch.tensor([1 << 62]))
    assert far.max_abs == float(1 << 63)


@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "uint16", "uint64", "complex128"]
)
def test_every_dtype_is_compared(dtype: str) -> None:
    one = torch.zeros(32, dtype=torch.uint8)
    other = one.clone()
    other[5] = 1
    sums = Sums()
    sums.add(one.view(getattr(torch, dtype)), other.view(getattr(torch, dtype)))
    assert sums.changed == 1


def test_dtypes_that_torch_cannot_calculate_with() -> None:
    raw = torch.tensor([1, 2], dtype=torch.uint8)
    sums = Sums()
    sums.add(raw.view(torch.float4_e2m1fn_x2), (raw + 1).view(torch.float4_e2m1fn_x2))
    assert (sums.changed, sums.relative, sums.max_abs, sums.cosine) == (2, None, None, None)


class Reading:
    """A store that counts the blobs that are read."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.blobs: list[Oid] = []

    def read(self, oid: Oid, kind: Any) -> bytes:
        return self.store.read(oid, kind)

    def read_blobs(self, jobs: list[tuple[Oid, memoryview]]) -> None:
        self.blobs += [oid for oid, _ in jobs]
        self.store.read_blobs(jobs)


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(ObjectStore(DirectoryStorage(str(tmp_path)), workers=1))


def stored(reading: Reading, model: Mapping[str, Any]) -> dict[str, ComponentTensor]:
    with reading.store.begin(mode=Mode.OFF) as transaction:
        root = write_state(transaction, {"model": dict(model)})
        transaction.seal()
    found = tensors_in(reading, component_entries(reading.store, root)["model"])
    return {leaf.name: leaf for leaf in found}


def by_name(difference: StateDiff) -> dict[str, TensorChange]:
    return {change.name: change for change in difference.tensors}


def test_equal_tensors_are_not_read(reading: Reading) -> None:
    model = {"a.weight": torch.randn(300, 300), "b.weight": torch.randn(500), "c": torch.ones(2)}
    one = stored(reading, model)
    model["b.weight"] = model["b.weight"] + 1
    found = by_name(compare(one, stored(reading, model)))
    assert [found[name].status for name in model] == ["equal", "changed", "equal"]
    assert len(reading.blobs) == 2
    assert (found["a.weight"].relative, found["a.weight"].cosine) == (0.0, 1.0)


def test_of_a_large_tensor_only_what_changed_is_read_twice(reading: Reading) -> None:
    weight = torch.randn(3 << 18)  # three chunks
    changed = weight.clone()
    changed[-1] += 1
    found = compare(stored(reading, {"w": weight}), stored(reading, {"w": changed}))
    assert len(reading.blobs) == 4
    a, b = weight.double(), changed.double()
    assert found.tensors[0].relative == pytest.approx(float((b - a).norm() / a.norm()))
    assert found.tensors[0].cosine == pytest.approx(1.0)
    assert found.tensors[0].sums is not None
    assert found.tensors[0].sums.changed == 1


def test_structure_and_order(reading: Reading) -> None:
    before = {
        "same": torch.ones(100),
        "little": torch.ones(100),
        "much": torch.ones(100),
        "gone": torch.ones(3),
        "shape": torch.ones(4),
        "type": torch.ones(100),
        "empty": torch.ones(0, 3),
        "last": torch.randn(4, 5, 6, 7).to(memory_format=torch.channels_last),
    }
    after = {
        **before,
        "little": torch.ones(100) * 1.01,
        "much": torch.zeros(100),
        "shape": torch.ones(2, 2),
        "type": torch.ones(100).half(),
        "new": torch.ones(5),
        "last": before["last"].contiguous(),
    }
    del after["gone"]
    found = compare(stored(reading, before), stored(reading, after))
    assert [change.name for change in found.tensors][:5] == [
        "shape",
        "gone",
        "new",
        "much",
        "little",
    ]
    named = by_name(found)
    assert {name: named[name].status for name in ("same", "empty", "last", "type")} == {
        "same": "equal",
        "empty": "equal",
        "last": "equal",
        "type": "changed",
    }
    assert named["type"].retyped
    assert named["type"].fraction == 0.0


def test_tied_weights_and_the_optimizers_nested_state(reading: Reading) -> None:
    shared = torch.randn(200)
    model = {"a": shared, "b": shared, "nested": {"x": [torch.ones(3), torch.ones(200)]}}
    one = stored(reading, model)
    assert list(one) == ["a", "b", "nested.x.0", "nested.x.1"]
    unchanged = compare(one, stored(reading, model)).tensors
    assert all(change.status == "equal" and not change.retyped for change in unchanged)
    assert not reading.blobs
    other = shared + 1
    found = compare(one, stored(reading, {**model, "a": other, "b": other}))
    assert [change.status for change in found.tensors] == ["changed", "changed", "equal", "equal"]


def test_layers(reading: Reading) -> None:
    assert layer_of("transformer.h.3.attn.c.weight") == "transformer.h.3"
    assert layer_of("transformer.wte.weight") == "transformer.wte"
    assert layer_of("bias") == "bias"
    one = {"h.0.a": torch.ones(100), "h.0.b": torch.ones(100), "h.1.a": torch.ones(100)}
    two = {**one, "h.0.a": torch.ones(100) * 2}
    layers = compare(stored(reading, one), stored(reading, two)).layers
    assert [(layer.name, layer.tensors, layer.changed_tensors) for layer in layers] == [
        ("h.0", 2, 1),
        ("h.1", 1, 0),
    ]
    assert layers[0].fraction == 0.5
    assert layers[0].sums.relative == pytest.approx(1.0)
