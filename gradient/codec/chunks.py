"""Where one chunk of a tensor's bytes ends and the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

CHUNK_BYTES: Final = 1 << 20
"""A multiple of every element size, so that no element is ever cut in two."""


def ranges(nbytes: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each chunk of `nbytes` bytes; only the last one may be short."""
    for start in range(0, nbytes, CHUNK_BYTES):
        yield start, min(start + CHUNK_BYTES, nbytes)
