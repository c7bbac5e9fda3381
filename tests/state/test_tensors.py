from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given

from gradient.errors import MalformedObjectError, UnsupportedValueError
from gradient.state.tensors import (
    DTYPES,
    ITEM_SIZES,
    TensorSpec,
    allocate,
    describe,
    extent,
    memory,
    same_bits,
    writable_memory,
)
from tests import strategies
from tests.state.value_roundtrip import same, through


def filled(dtype: str, *shape: int) -> torch.Tensor:
    tensor = allocate(TensorSpec(dtype, shape))
    target = writable_memory(tensor)
    target[:] = bytes((37 * i + 200) % (2 if dtype == "bool" else 256) for i in range(len(target)))
    return tensor


@pytest.mark.parametrize("name", ITEM_SIZES)
def test_sizes_are_torchs(name: str) -> None:
    assert DTYPES[name].itemsize == ITEM_SIZES[name]
    assert str(DTYPES[name]) == f"torch.{name}"


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_round_trips(name: str, shape: tuple[int, ...]) -> None:
    tensor = filled(name, *shape)
    assert same(through(tensor), tensor)
    assert same_bits(tensor.clone(), tensor)


@given(strategies.tensors())
def test_layout_and_bits_round_trip(tensor: torch.Tensor) -> None:
    back = through(tensor)
    assert same_bits(back, tensor)
    spec = describe(tensor, "t")
    assert describe(back, "t") == spec
    assert TensorSpec.from_json(spec.to_json()) == spec
    assert len(memory(tensor)) == spec.nbytes == tensor.nbytes


def test_nan_payloads_and_signed_zeros_stay() -> None:
    bits = torch.tensor([0x7FC00001, -0x7FFFFF, -0x80000000, 0x7F800001], dtype=torch.int64)
    tensor = bits.to(torch.int32).view(torch.float32)
    assert torch.equal(through(tensor).view(torch.int32), tensor.view(torch.int32))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (1, 3, 1, 1)], ids=str)
def test_channels_last_comes_back(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape).to(memory_format=torch.channels_last)
    back = through(tensor)
    assert back.stride() == tensor.stride()
    assert back.is_contiguous(memory_format=torch.channels_last)


def test_a_dense_tensor_lends_its_memory() -> None:
    tensor = torch.zeros(4)
    view = memory(tensor)
    tensor[0] = 1
    assert bytes(view[:4]) == b"\0\0\x80\x3f"


def test_a_slice_comes_back_dense() -> None:
    tensor = torch.arange(12).reshape(3, 4)[:, 1:3]
    assert describe(tensor, "t").stride is None
    assert torch.equal(through(tensor), tensor)
    expanded = torch.tensor([1.0, 2.0]).expand(3, 2)
    assert torch.equal(through(expanded), expanded)


def test_lazy_bits_are_resolved() -> None:
    tensor = torch.randn(3, dtype=torch.complex64).conj()
    assert tensor.is_conj()
    assert same_bits(through(tensor), tensor.resolve_conj())
    negative = tensor.imag
    assert negative.is_neg()
    assert torch.equal(through(negative), negative)


def test_parameters_stay_parameters() -> None:
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    leaf = torch.ones(2, requires_grad=True)
    computed = leaf * 2
    assert type(through(frozen)) is torch.nn.Parameter
    assert not through(frozen).requires_grad
    assert through(leaf).requires_grad
    assert not through(computed).requires_grad
    assert type(through(torch.nn.Buffer(torch.ones(2)))) is torch.Tensor


class Odd(torch.Tensor):
    pass


REFUSED: dict[str, Any] = {
    "layout torch.sparse_coo": lambda: torch.eye(2).to_sparse(),
    "subclass .*Odd": lambda: torch.ones(2).as_subclass(Odd),
    "meta device": lambda: torch.ones(2, device="meta"),
    "dtype torch.int4": lambda: torch.empty(2, dtype=torch.int4),
    "lazy parameter": lambda: torch.nn.LazyLinear(3).weight,
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_stored_is_refused_by_name(what: str) -> None:
    with pytest.raises(UnsupportedValueError, match=rf"model.fc.weight: .*{what}"):
        describe(REFUSED[what](), "model.fc.weight")


def test_as_many_dimensions_are_stored_as_are_read() -> None:
    spec = describe(torch.zeros([1] * 64), "w")
    assert TensorSpec.from_json(spec.to_json()) == spec
    with pytest.raises(UnsupportedValueError, match="w: a tensor of 65 dimensions, more than 64"):
        describe(torch.zeros([1] * 65), "w")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensors_are_refused() -> None:
    tensor = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    with pytest.raises(UnsupportedValueError, match="quantised"):
        describe(tensor, "w")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused() -> None:
    with pytest.raises(UnsupportedValueError, match=r"jagged|nested|subclass"):
        describe(torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "w")


@pytest.mark.parametrize(
    "node",
    [
        None,
        {},
        {"dtype": "float32"},
        {"dtype": "float33", "shape": []},
        {"dtype": ["float32"], "shape": []},
        {"dtype": "float32", "shape": [-1]},
        {"dtype": "float32", "shape": [True]},
        {"dtype": "float32", "shape": [1.0]},
        {"dtype": "float32", "shape": [1 << 61]},
        {"dtype": "float32", "shape": [1 << 40, 1 << 40]},
        {"dtype": "float32", "shape": [1] * 65},
        {"dtype": "float32", "shape": [2], "stride": [1]},
        {"dtype": "float32", "shape": [2, 2], "stride": [1, 3]},
        {"dtype": "float32", "shape": [2, 2], "stride": [0, 1]},
        {"dtype": "float32", "shape": [2, 2], "stride": [1]},
        {"dtype": "float32", "shape": [2], "requires_grad": False},
        {"dtype": "float32", "shape": [2], "requires_grad": 1},
        {"dtype": "int8", "shape": [2], "requires_grad": True},
        {"dtype": "float32", "shape": [2], "device": "cpu"},
    ],
    ids=str,
)
def test_malformed_descriptions(node: Any) -> None:
    with pytest.raises(MalformedObjectError):
        TensorSpec.from_json(node)


def test_extents_show_shared_memory() -> None:
    whole = torch.zeros(10)
    left, right, both = whole[:5], whole[5:], whole[3:7]
    assert extent(left)[0] == extent(right)[0] != extent(torch.zeros(10))[0]
    assert extent(left)[1:] == (0, 20)
    assert extent(right)[1:] == (20, 40)
    assert extent(both)[1:] == (12, 28)
    assert extent(whole[::2])[1:] == (0, 36)
    assert extent(whole[:0])[1:] == (0, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_memory_is_copied() -> None:
    tensor = torch.randn(2, 3, 4, 5, device="cuda").to(memory_format=torch.channels_last)
    back = through(tensor)
    assert same_bits(back, tensor)
    assert back.stride() == tensor.stride()
    assert same_bits(through(tensor[:, ::2]), tensor[:, ::2])
