"""Tensors as bytes: their description, their memory, and the tensors that can be stored.

Dense CPU tensors are not copied: their bytes are a view of their own memory.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import numpy as np
import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from gradient.errors import MalformedObjectError, UnsupportedValueError
from gradient.objects.canonical import Json

ITEM_SIZES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "float4_e2m1fn_x2": 1,
    "complex32": 4,
    "complex64": 8,
    "complex128": 16,
    "bits8": 1,
    "bits16": 2,
    "bits1x8": 1,
    "bits2x4": 1,
    "bits4x2": 1,
}
"""The stored names of element types, and the bytes of one element."""

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ITEM_SIZES if hasattr(torch, name)
}
"""The dtypes of the installed torch by stored name. torch can copy all of them on a CPU."""

NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}
"""The inverse of `DTYPES`."""

_MAX_DIMENSIONS = 64
_MAX_BYTES = 1 << 60

Extent: TypeAlias = tuple[tuple[str, int], int, int]
"""The key of a storage (device, address), and the range of a tensor's bytes in it."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """The description of a tensor without its bytes."""

    dtype: str
    """A name of `DTYPES`."""
    shape: tuple[int, ...]
    """The size of each dimension."""
    stride: tuple[int, ...] | None = None
    """Elements between neighbours in each dimension; None for C order."""
    requires_grad: bool = False
    """True if it is a leaf that requires a gradient."""
    parameter: bool = False
    """True if it is a ``torch.nn.Parameter``."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return ITEM_SIZES[self.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.itemsize

    def to_json(self) -> dict[str, Json]:
        """Encode the description, leaving out fields with default values."""
        node: dict[str, Json] = {"dtype": self.dtype, "shape": list(self.shape)}
        if self.stride is not None:
            node["stride"] = list(self.stride)
        if self.requires_grad:
            node["requires_grad"] = True
        if self.parameter:
            node["parameter"] = True
        return node

    @classmethod
    def from_json(cls, node: Json) -> TensorSpec:
        """Decode and check a description; raises MalformedObjectError."""
        if type(node) is not dict:
            raise MalformedObjectError(f"not a tensor's description: {node!r:.80}")
        dtype = node.get("dtype")
        if type(dtype) is not str or dtype not in ITEM_SIZES:
            raise MalformedObjectError(f"not a dtype: {dtype!r:.80}")
        stride = _sizes(node["stride"]) if "stride" in node else None
        spec = cls(
            dtype,
            _sizes(node.get("shape")),
            stride,
            node.get("requires_grad") is True,
            node.get("parameter") is True,
        )
        if spec.to_json() != node:
            raise MalformedObjectError(f"a tensor's description has other fields: {node!r:.80}")
        if spec.requires_grad and not dtype.startswith(("float", "bfloat", "complex")):
            raise MalformedObjectError(f"a tensor of {dtype} that requires a gradient")
        if spec.nbytes > _MAX_BYTES:
            raise MalformedObjectError(f"a tensor of {spec.nbytes} bytes")
        if stride is not None and (
            stride == _c_order(spec.shape) or not _is_dense(spec.shape, stride)
        ):
            raise MalformedObjectError(f"a tensor of shape {spec.shape} with strides {stride}")
        return spec


def describe(tensor: torch.Tensor, path: str) -> TensorSpec:
    """Return the description of a tensor; raises UnsupportedValueError naming `path`.

    Strides are kept if memory is dense (a permutation of the dimensions, such as channels_last).
    A slice or an expanded tensor is restored in C order, and a computed tensor without its graph.
    """
    _check(tensor, path)
    shape, stride = tuple(tensor.shape), tuple(tensor.stride())
    keep = tensor.numel() > 0 and stride != _c_order(shape) and _is_dense(shape, stride)
    return TensorSpec(
        NAMES[tensor.dtype],
        shape,
        stride if keep else None,
        tensor.requires_grad and tensor.is_leaf,
        type(tensor) is torch.nn.Parameter,
    )


def memory(tensor: torch.Tensor) -> memoryview:
    """Return the tensor's bytes in the order of its memory, as `describe` recorded it.

    For a dense CPU tensor this is a view of its memory, which keeps it alive and sees later
    changes. Other tensors are copied.
    """
    if tensor.numel() == 0:
        return memoryview(b"")
    if tensor.device.type == "cpu" and is_dense(tensor):
        return np.asarray(_BorrowedMemory(tensor)).data
    return _bytes(_dense(tensor.detach().resolve_conj().resolve_neg().cpu()))


class _BorrowedMemory:
    """The memory of a dense CPU tensor for NumPy's array interface.

    NumPy accesses it without calling torch, in a fifth of the time and without releasing the GIL.
    """

    __slots__ = ("__array_interface__", "_owner")

    def __init__(self, tensor: torch.Tensor) -> None:
        self._owner = tensor
        self.__array_interface__ = {
            "version": 3,
            "shape": (tensor.nbytes,),
            "typestr": "|u1",
            "data": (tensor.data_ptr(), True),
        }


def flat(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of `memory` as a uint8 tensor on the tensor's own device.

    For a dense tensor it is a view, otherwise a copy. The tensor must not be empty.
    """
    return _flat_bytes(_dense(tensor.detach().resolve_conj().resolve_neg()))


def is_dense(tensor: torch.Tensor) -> bool:
    """Return whether the tensor fills a range of memory, in any order of its dimensions."""
    plain = not (tensor.is_conj() or tensor.is_neg())
    return plain and _is_dense(tuple(tensor.shape), tuple(tensor.stride()))


def allocate(spec: TensorSpec) -> torch.Tensor:
    """Return an uninitialised CPU tensor with the layout of `spec`.

    Raises MalformedObjectError if the installed torch lacks the dtype.
    """
    dtype = DTYPES.get(spec.dtype)
    if dtype is None:
        raise MalformedObjectError(f"this torch has no dtype {spec.dtype}")
    stride = _c_order(spec.shape) if spec.stride is None else spec.stride
    if dtype is torch.complex32:
        with warnings.catch_warnings():  # torch calls the dtype experimental, once per process
            warnings.simplefilter("ignore", UserWarning)
            tensor = torch.empty_strided(spec.shape, stride, dtype=dtype, device="cpu")
    else:
        tensor = torch.empty_strided(spec.shape, stride, dtype=dtype, device="cpu")
    if spec.parameter:
        return torch.nn.Parameter(tensor, requires_grad=spec.requires_grad)
    return tensor.requires_grad_() if spec.requires_grad else tensor


def writable_memory(tensor: torch.Tensor) -> memoryview:
    """Return the writable memory of a tensor from `allocate`."""
    return memoryview(bytearray()) if tensor.numel() == 0 else _bytes(tensor.detach())


def extent(tensor: torch.Tensor) -> Extent:
    """Return the memory that a tensor covers. Equal keys with overlapping ranges share bytes."""
    storage = tensor.untyped_storage()
    key = (str(tensor.device), storage.data_ptr())
    start = int(tensor.storage_offset()) * tensor.element_size()
    if tensor.numel() == 0:
        return key, start, start
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return key, start, start + (int(last) + 1) * tensor.element_size()


def longest_storage(sharing: Iterable[torch.Tensor]) -> torch.UntypedStorage:
    """Return the longest storage of tensors with the same `extent` key.

    Storages that were made from one NumPy array have the same address but different lengths.
    """
    return max((tensor.untyped_storage() for tensor in sharing), key=lambda each: each.nbytes())


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether dtype, shape and every bit are equal, including NaN payloads and -0.0."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.numel() == 0:
        return True
    return bool(torch.equal(_ordered(one), _ordered(other)))


def _ordered(tensor: torch.Tensor) -> torch.Tensor:
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return _flat_bytes(dense)


def _bytes(dense: torch.Tensor) -> memoryview:
    view: memoryview = _flat_bytes(dense).numpy().data
    return view


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if _is_dense(tuple(tensor.shape), tuple(tensor.stride())) else tensor.contiguous()


def _flat_bytes(dense: torch.Tensor) -> torch.Tensor:
    raw = torch.empty(0, dtype=torch.uint8, device=dense.device)
    offset = dense.storage_offset() * dense.element_size()
    raw.set_(dense.untyped_storage(), offset, (dense.nbytes,), (1,))
    return raw


def _c_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    stride: list[int] = []
    step = 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return tuple(reversed(stride))


def _is_dense(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Return whether elements fill a range without gaps or overlaps, in any order of dimensions."""
    if len(shape) != len(stride) or 0 in shape:
        return False
    step = 1
    for distance, size in sorted(zip(stride, shape, strict=True)):
        if size == 1:
            continue
        if distance != step:
            return False
        step *= size
    return True


def _sizes(node: Json) -> tuple[int, ...]:
    if type(node) is not list or len(node) > _MAX_DIMENSIONS:
        raise MalformedObjectError(f"not a shape or strides: {node!r:.80}")
    sizes = tuple(size for size in node if type(size) is int and 0 <= size < _MAX_BYTES)
    if len(sizes) != len(node):
        raise MalformedObjectError(f"not a shape or strides: {node!r:.80}")
    return sizes


def _check(tensor: torch.Tensor, path: str) -> None:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        raise UnsupportedValueError(
            path,
            "a lazy parameter that no forward pass has initialised yet",
            "Run one batch through the model before the first commit",
        )
    if type(tensor) is not torch.Tensor and type(tensor) is not torch.nn.Parameter:
        name = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
        _refuse(path, f"a tensor of the subclass {name}")
    if tensor.layout is not torch.strided:
        _refuse(path, f"a tensor of layout {tensor.layout}")
    if tensor.is_quantized:
        _refuse(path, f"a quantised tensor ({tensor.dtype})")
    if tensor.is_nested:
        _refuse(path, "a nested tensor")
    if tensor.dim() > _MAX_DIMENSIONS:
        _refuse(path, f"a tensor of {tensor.dim()} dimensions, more than {_MAX_DIMENSIONS}")
    if tensor.device.type == "meta":
        _refuse(path, "a tensor on the meta device, which has no bytes")
    if tensor.dtype not in NAMES:
        _refuse(path, f"a tensor of dtype {tensor.dtype}, which torch cannot copy")


def _refuse(path: str, what: str) -> NoReturn:
    raise UnsupportedValueError(
        path, what, "Only plain dense tensors can be stored: convert it in the getter"
    )
