from __future__ import annotations

import io
import logging
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gradient.errors import UnsupportedValueError
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.repo.branch_writer import BranchWriter
from gradient.view import desc_payload
from tests.view.making import PLAIN, captured, make_repo, publish

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = CommitRecord(Oid(bytes(32)), (), None, 7, "main", "2026-02-10T12:34:56.000000", "hello")

CONVERTED = {
    "float64": (np.float64(0.1), 0.1),
    "float32": (np.float32(0.1), float(np.float32(0.1))),
    "uint64": (np.uint64(1 << 63), 1 << 63),
    "bool": (np.bool_(1), True),
    "str": (np.str_("a"), "a"),
    "frozenset": (frozenset({1, 2}), {1, 2}),
    "defaultdict": (defaultdict(int, a=1), {"a": 1}),
    "deque": (deque([1, 2]), [1, 2]),
}

KEPT = [
    None, True, 1, -(1 << 127), 1.5, float("inf"), 2j, "text", "\ud800", b"bytes", bytearray(b"x"),
    [1, (2, [3])], {1: {"a": (1,)}}, {(1, "a"): 2}, {1, 2}, OrderedDict(b=1, a=2), Counter("aab"),
    torch.Size([1, 2]), torch.bfloat16, torch.device("cpu"),
]  # fmt: skip

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.complex64, torch.complex128, torch.uint8, torch.int8, torch.int16,
    torch.uint16, torch.int32, torch.uint32, torch.int64, torch.uint64, torch.bool,
]  # fmt: skip

REFUSED = [
    np.array(["a", "b"]),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.longdouble("0.1"),
    np.datetime64("2026-02-10"),
    deque([1], maxlen=3),
    {frozenset({1}): 2},
    object(),
]


def through_torch(value: Any) -> Any:
    """Save and load as a reader without Gradient does."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)


def ported(value: Any) -> Any:
    """Return what a reader finds of a registered state."""
    built = desc_payload.build(COMMIT, COMMIT.oid, {"thing": value}, path="/x.pt")
    return through_torch(desc_payload.portable(built))["data"]["thing"]["state"]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        same_kind = (one.dtype, one.shape) == (other.dtype, other.shape)
        return same_kind and torch.equal(_bytes(one), _bytes(other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def test_shape() -> None:
    state = captured(env=PLAIN)

    built = desc_payload.build(COMMIT, COMMIT.oid, state, path="/r/ckpt_main_s7.pt")

    assert built["is_delta"] is False
    assert built["anchor_id"] == str(COMMIT.oid)
    assert built["anchor_ref"] == "main@7"
    assert built["anchor_path"] == "/r/ckpt_main_s7.pt"
    data = built["data"]
    assert list(data) == [
        "step", "model", "optimizer", "scheduler", "rng", "amp", "distributed", "external", "meta",
        "env",
    ]  # fmt: skip
    assert data["external"] == {"version": None, "state": None}
    assert data["env"] == {"version": None, "state": PLAIN}
    assert data["meta"]["ckpt_id"] == str(COMMIT.oid)
    assert data["meta"]["message"] == "hello"


def test_the_whole_payload_loads_plainly() -> None:
    built = desc_payload.portable(
        desc_payload.build(COMMIT, COMMIT.oid, captured(env=PLAIN), path="/x")
    )

    assert same(through_torch(built), built)


def test_the_optimizer_is_numbered_as_torch_numbers_it() -> None:
    state = captured()
    data = desc_payload.build(COMMIT, COMMIT.oid, state, path="/x")["data"]
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())

    optimizer.load_state_dict(data["optimizer"])

    assert data["optimizer"]["param_groups"][0]["params"] == [0, 1, 2, 3]
    first = optimizer.state[model[0].weight]["exp_avg"]
    assert same(first, state["optimizer"]["state"]["0.weight"]["exp_avg"])


@pytest.mark.parametrize("name", CONVERTED)
def test_converted_without_loss(name: str) -> None:
    value, expected = CONVERTED[name]

    assert same(ported([value]), [expected])


@pytest.mark.parametrize("value", KEPT, ids=repr)
def test_kept_as_it_is(value: Any) -> None:
    assert same(ported(value), value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: torch.dtype) -> None:
    tensor = torch.arange(24, dtype=torch.uint8).view(dtype) if dtype.itemsize <= 8 else None
    if dtype is torch.bool:
        tensor = torch.tensor([True, False])
    if tensor is None:
        tensor = torch.tensor([1 + 2j, float("nan")], dtype=dtype)

    assert same(ported(tensor), tensor)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f8", "i4", "u2", "c16"])
def test_arrays_become_tensors(kind: str, order: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(order + kind)

    found = ported(array)

    assert np.array_equal(found.numpy(), array)


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: repr(value).split(" at ")[0])
def test_left_out_with_a_log_line(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    built = desc_payload.build(COMMIT, COMMIT.oid, {"env": [value], "other": 1}, path="/x")

    with caplog.at_level(logging.WARNING, "gradient"):
        found = desc_payload.portable(built)

    assert "env" not in found["data"]
    assert found["data"]["other"]["state"] == 1
    assert "env.state[0]" in caplog.text


def test_the_model_is_never_left_out() -> None:
    built = desc_payload.build(COMMIT, COMMIT.oid, {"model": {"_extra_state": object()}}, path="/x")

    with pytest.raises(UnsupportedValueError, match=r"model\._extra_state"):
        desc_payload.portable(built)


def test_shared_memory_stays_shared_and_windows_are_cut_out() -> None:
    weight = torch.arange(4.0)
    window = torch.arange(1_000_000.0)[10:14]
    state = {"model": {"a": weight, "b": weight.view(2, 2), "c": window}}

    file = io.BytesIO()
    torch.save(
        desc_payload.portable(desc_payload.build(COMMIT, COMMIT.oid, state, path="/x")), file
    )
    file.seek(0)
    model = torch.load(file)["data"]["model"]

    assert len(file.getvalue()) < 100_000
    assert model["a"].data_ptr() == model["b"].data_ptr()
    assert same(model["c"], window)


def test_size_is_known_without_reading(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    big = torch.zeros(300_000)
    state = {"model": {"w": big, "tied": big}, "env": {"a": np.zeros(1000)}}
    oid = publish(BranchWriter.open(repo, "main"), 0, state).commit
    commit = repo.read_commit(oid)

    for known in (state, None, {"env": state["env"]}):
        assert desc_payload.size(repo, commit, known) == pytest.approx(1_208_000, rel=0.01)


def test_reading_back_from_the_store(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    state = captured(env=PLAIN)
    oid = publish(BranchWriter.open(repo, "main"), 7, state).commit
    commit = repo.read_commit(oid)

    for known in (None, {"model": state["model"]}):
        whole = desc_payload.complete(repo, commit, known)
        built = desc_payload.build(commit, oid, whole, path="")
        assert same(built, desc_payload.build(commit, oid, {k: state[k] for k in whole}, path=""))
