"""The elements of a chunk as unsigned integers, the only number type of the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gradient.codec.scratch_buffers import SCRATCH

if TYPE_CHECKING:
    from typing_extensions import Buffer

Words = npt.NDArray[np.unsignedinteger[Any]]

WIDTHS: Final = (1, 2, 4, 8)
"""The permitted sizes of an element and of a span, in bytes."""


def words(data: Buffer, width: int) -> Words:
    """View a buffer as little-endian unsigned integers of `width` bytes."""
    elements: Words = np.frombuffer(memoryview(data), f"<u{width}")
    return elements


def is_constant(elements: Words) -> bool:
    """Return whether all elements (at least one) are equal."""
    same = SCRATCH.take("same", elements.size).view(np.bool_)
    return bool(np.equal(elements, elements[0], out=same).all())
