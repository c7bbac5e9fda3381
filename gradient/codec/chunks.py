"""The boundaries of the chunks of a tensor's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

CHUNK_BYTES: Final = 1 << 20
"""The size of a chunk: a multiple of every element size, so that no element is split."""


def ranges(nbytes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each chunk of `nbytes` bytes; only the last one may be shorter."""
    for start in range(0, nbytes, CHUNK_BYTES):
        yield start, min(start + CHUNK_BYTES, nbytes)
