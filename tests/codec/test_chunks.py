from __future__ import annotations

import pytest

from gradient.codec.chunks import CHUNK_BYTES, ranges


@pytest.mark.parametrize("nbytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_ranges_cover_everything_once(nbytes: int) -> None:
    end = 0
    for start, stop in ranges(nbytes):
        assert start == end
        assert 0 < stop - start <= CHUNK_BYTES
        end = stop
    assert end == nbytes


def test_no_element_is_cut() -> None:
    assert all(CHUNK_BYTES % size == 0 for size in (1, 2, 4, 8, 16))
