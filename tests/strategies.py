"""What hypothesis draws states from: every dtype, layout, special bits, and hostile keys."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from gradient.state.tensors import DTYPES, TensorSpec, allocate, writable_memory

NUMPY_DTYPES = "|b1 |i1 <i2 <i4 <i8 |u1 <u2 >u4 <u8 <f2 <f4 >f8 <c8 <c16 <U3 |S2 <M8[us] <m8[D]"

shapes: SearchStrategy[tuple[int, ...]] = st.lists(
    st.sampled_from([0, 1, 2, 3, 5]), max_size=4
).map(tuple)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any tensor that can be stored: its bits are random, so every NaN and -0.0 occurs."""
    name = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(shapes)
    order = draw(st.permutations(range(len(shape))))
    stride, step = [0] * len(shape), 1
    for dimension in order:
        stride[dimension] = step
        step *= max(shape[dimension], 1)
    tensor = allocate(TensorSpec(name, shape, tuple(stride)))
    memory = writable_memory(tensor)
    data = draw(st.binary(min_size=len(memory), max_size=len(memory)))
    memory[:] = bytes(byte & 1 for byte in data) if name == "bool" else data
    if shape and draw(st.booleans()):
        tensor = tensor[..., ::2]
    return tensor


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Any NumPy array that can be stored."""
    dtype = np.dtype(draw(st.sampled_from(NUMPY_DTYPES.split())))
    shape = draw(shapes)
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype.kind in "bU":  # a bool is 0 or 1, and a letter a code point
        data = bytes(byte & 1 for byte in data) if dtype.kind == "b" else b"a\0\0\0" * (size // 4)
    array = np.frombuffer(bytearray(data), dtype).reshape(shape)
    return np.asfortranarray(array) if draw(st.booleans()) else array


def scalars() -> SearchStrategy[Any]:
    """Values that contain no others, hostile ones included."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 200), 1 << 200),
        st.floats(),
        st.complex_numbers(),
        st.text(),
        st.text(st.characters(categories=["Cs", "Ll"])),
        st.sampled_from(["", "/", "..", "a.b", "tensor", "\0", "é", "e\u0301"]),
        st.binary(max_size=300),
        st.sampled_from([np.float32(1.5), np.int64(-3), np.bool_(True), np.float16("nan")]),
        st.sampled_from(
            [torch.float8_e5m2, torch.int4, torch.Size([2, 3]), torch.device("cuda:1")]
        ),
    )


def keys() -> SearchStrategy[Any]:
    """Keys of mappings, and elements of sets."""
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary(max_size=4))
    return st.one_of(plain, st.tuples(plain, plain), st.frozensets(st.integers(), max_size=3))


def values() -> SearchStrategy[Any]:
    """Any nested value that can be stored."""
    leaves = st.one_of(scalars(), tensors(), arrays(), st.binary(max_size=9).map(bytearray))
    return st.recursive(leaves, _containers, max_leaves=12)


def _containers(children: SearchStrategy[Any]) -> SearchStrategy[Any]:
    mappings = st.dictionaries(keys(), children, max_size=4)
    lists = st.lists(children, max_size=4)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(lambda items: deque(items, len(items) + 1)),
        mappings,
        mappings.map(OrderedDict),
        mappings.map(Counter),
        mappings.map(lambda items: defaultdict(list, items)),
        st.sets(keys(), max_size=4),
        st.frozensets(keys(), max_size=4),
    )
