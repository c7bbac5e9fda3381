"""Packing of bytes whose top bit is never set: eight values in seven bytes.

The mantissa bytes of second moments are noise below a sign bit that is always zero. An entropy
coder saves the sign bit slowly. Moving every eighth byte into the spare bits of seven others saves
the same eighth at memory speed.
"""

from __future__ import annotations

import numpy as np

from gradient.codec.scratch_buffers import SCRATCH, Bytes


def packed_size(count: int) -> int:
    """Return the packed length of `count` values, in bytes."""
    return 7 * (-(-count // 8))


def pack(values: Bytes) -> Bytes:
    """Return a new array of seven rows.

    Row i holds the i-th eighth of the values. Its top bits hold the i-th bit, from the top of
    seven, of each value of the last eighth. Missing values are zero.
    """
    row = -(-values.size // 8)
    if values.size % 8:
        filled = SCRATCH.take("filled", 8 * row)
        filled[: values.size] = values
        filled[values.size :] = 0
        values = filled
    eighths = values.reshape(8, row)
    out = np.empty((7, row), np.uint8)
    spare = SCRATCH.take("spare", row)
    np.copyto(spare, eighths[7])
    for packed, eighth in zip(out, eighths, strict=False):
        np.add(spare, spare, out=spare)
        np.bitwise_and(spare, 128, out=packed)
        np.bitwise_or(packed, eighth, out=packed)
    return out.reshape(-1)


def unpack(packed: Bytes, out: Bytes) -> Bytes:
    """Unpack into `out`, whose size is the number of packed values, and return `out`."""
    row = out.size // 8
    rows, eighths = packed.reshape(7, row), out.reshape(8, row)
    np.bitwise_and(rows, 127, out=eighths[:7])
    last, bit = eighths[7], SCRATCH.take("spare", row)
    last[:] = 0
    for stored in rows:
        np.add(last, last, out=last)
        np.greater_equal(stored, 128, out=bit.view(np.bool_))
        np.bitwise_or(last, bit, out=last)
    return out
