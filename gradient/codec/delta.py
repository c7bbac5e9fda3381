"""A chunk as its integer difference from another chunk of the same length.

Elements of both are read as unsigned little-endian integers whatever they mean: neighbouring
floats are neighbouring integers, so a small step of a weight is a small integer, and wrapping
arithmetic loses nothing. Zigzag then folds small negative differences next to small positive ones,
which leaves the high byte planes zero.
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
    """Turn zigzag differences into the elements they stand for, in place."""
    sign = SCRATCH.take("sign", words.nbytes).view(words.dtype)
    np.bitwise_and(words, 1, out=sign)
    np.negative(sign, out=sign)
    np.right_shift(words, 1, out=words)
    np.bitwise_xor(words, sign, out=words)
    np.add(words, base, out=words)
