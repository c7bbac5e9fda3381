from __future__ import annotations

import numpy as np
import pytest

from gradient.codec import delta


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_extremes_wrap_and_come_back(width: int) -> None:
    top = 256**width - 1
    ends = [0, 1, 2, top // 2, top // 2 + 1, top - 1, top]
    dtype = f"<u{width}"
    words = np.array([a for a in ends for _ in ends], dtype)
    base = np.array([b for _ in ends for b in ends], dtype)
    out = np.empty_like(words)
    delta.difference(words, base, out)
    delta.restore(out, base)
    assert out.tolist() == words.tolist()


def test_zigzag_interleaves_signs() -> None:
    base = np.full(5, 1000, "<u2")
    out = np.empty_like(base)
    delta.difference(base + np.array([0, -1, 1, -2, 2], "<i2").view("<u2"), base, out)
    assert out.tolist() == [0, 1, 2, 3, 4]
