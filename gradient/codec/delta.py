"""A chunk as its integer difference from another chunk of the same length.

The elements of both chunks are read as unsigned little-endian integers, whatever their dtype.
Adjacent floats have adjacent bit patterns (IEEE 754), so a small step of a weight is a small
integer. Wrapping arithmetic is lossless. Zigzag encoding (as in Protocol Buffers) maps small
negative differences to small positive integers, so that the high byte planes are zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gradient.codec.scratch_buffers import SCRATCH

if TYPE_CHECKING:
    Words = npt.NDArray[np.unsignedinteger[Any]]


def difference(words: Words, base: Words, out: Words) -> None:
    """Write zigzag(words - base) to `out`; all three have one length and one dtype."""
    np.subtract(words, base, out=out)
    bits = out.itemsize * 8
    sign = SCRATCH.take("sign", out.nbytes).view(f"<i{out.itemsize}")
    np.right_shift(out.view(sign.dtype), bits - 1, out=sign)
    np.left_shift(out, 1, out=out)
    np.bitwise_xor(out, sign.view(out.dtype), out=out)


def restore(words: Words, base: Words) -> None:
    """Turn zigzag differences from `base` into the original elements, in place."""
    sign = SCRATCH.take("sign", words.nbytes).view(words.dtype)
    np.bitwise_and(words, 1, out=sign)
    np.negative(sign, out=sign)
    np.right_shift(words, 1, out=words)
    np.bitwise_xor(words, sign, out=words)
    np.add(words, base, out=words)
