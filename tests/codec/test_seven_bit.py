from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradient.codec import seven_bit


@given(st.lists(st.integers(0, 127), min_size=1, max_size=200))
def test_round_trip(values: list[int]) -> None:
    array = np.array(values, np.uint8)
    packed = seven_bit.pack(array)
    assert packed.size == seven_bit.packed_size(array.size)
    out = np.empty(packed.size // 7 * 8, np.uint8)
    assert seven_bit.unpack(packed, out)[: array.size].tolist() == values


def test_eight_values_in_seven_bytes() -> None:
    values = np.arange(1, 9, dtype=np.uint8)
    assert seven_bit.pack(values).tobytes().hex() == "01020384050607"
