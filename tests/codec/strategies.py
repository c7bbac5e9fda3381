"""Chunks that look like training state, and chunks that look like nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gradient.codec.chunks import CHUNK_BYTES
from gradient.codec.elements import WIDTHS

widths = st.sampled_from(WIDTHS)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(["noise", "weights", "squares", "zeros", "sparse", "counting", "text"])
sizes = st.one_of(
    st.integers(0, 300),
    st.integers(0, 40_000),
    st.sampled_from([CHUNK_BYTES - 1, CHUNK_BYTES]),
)


def make(kind: str, size: int, width: int, seed: int) -> bytes:
    """Return `size` bytes of one kind; floats are shaped as the top bytes of fp64 are."""
    generator = np.random.default_rng(seed)
    count = size // width + 1
    if kind == "noise":
        return generator.bytes(size)
    if kind == "text":
        return (b'{"name":"%d","step":%d}' % (seed, size) * (size // 16 + 1))[:size]
    if kind == "zeros":
        return bytes(size)
    if kind == "counting":
        return np.arange(seed, seed + count, dtype="<u8").astype(f"<u{width}").tobytes()[:size]
    numbers = generator.standard_normal(count) * 0.02
    if kind == "squares":
        numbers = numbers**2
    if kind == "sparse":
        numbers[generator.random(count) > 0.01] = 0
    if width == 8:
        return numbers.astype("<f8").tobytes()[:size]
    bits = numbers.astype("<f4").view("<u4") >> (32 - 8 * width)
    return bits.astype(f"<u{width}").tobytes()[:size]


@st.composite
def chunks(draw: st.DrawFn, *, width: int) -> bytes:
    """Draw one chunk for elements of `width` bytes."""
    return make(draw(kinds), draw(sizes), width, draw(seeds))
