from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradient.codec import sparse


@given(
    count=st.integers(1, 3000),
    places=st.lists(st.tuples(st.integers(0, 2999), st.integers(0, 255)), max_size=60),
    common=st.integers(0, 255),
)
def test_round_trip(count: int, places: list[tuple[int, int]], common: int) -> None:
    values = np.full(count, common, np.uint8)
    for place, value in places:
        values[place % count] = value
    stored = sparse.pack(values, common)
    if stored is None:
        assert 2 * np.count_nonzero(values != common) > count
    else:
        assert sparse.unpack(memoryview(stored), count).tolist() == values.tolist()


@pytest.mark.parametrize("gap", [0, 1, 253, 254, 255, 256, 509, 510, 511, 765])
def test_distances_around_the_escape(gap: int) -> None:
    values = np.zeros(2 * gap + 4, np.uint8)
    values[[gap, 2 * gap + 1]] = 7, 9
    stored = sparse.pack(values, 0)
    assert stored is not None
    assert sparse.unpack(memoryview(stored), values.size).tolist() == values.tolist()


def test_what_is_not_sparse_is_refused() -> None:
    assert sparse.pack(np.arange(100, dtype=np.uint8), 0) is None


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3])
def test_places_anywhere_cost_what_they_say(share: float) -> None:
    """Where one of many is: its share's entropy, and a twentieth."""
    generator = np.random.default_rng(1)
    values = (generator.random(1 << 19) < share).astype(np.uint8)
    stored = sparse.pack(values, 0)
    assert stored is not None
    bits = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert len(stored) < 1.05 * bits * values.size / 8 + 400


def test_rows_cost_less_than_their_places() -> None:
    values = np.zeros((1000, 100), np.uint8)
    values[::5] = 3
    stored = sparse.pack(values.reshape(-1), 0)
    assert stored is not None
    assert len(stored) < 1000
