"""Working memory that each thread reuses from chunk to chunk.

Touching newly allocated memory takes longer than splitting a chunk into planes. So the
intermediate planes of a chunk overwrite those of the chunk before. Results of the codec must not
use this memory, because the next call on the same thread overwrites it.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from gradient.codec.chunks import CHUNK_BYTES

Bytes = npt.NDArray[np.uint8]


class Scratch(threading.local):
    """Named byte arrays, one set per thread."""

    def __init__(self) -> None:
        self._arrays: dict[str, Bytes] = {}

    def take(self, name: str, nbytes: int) -> Bytes:
        """Return `nbytes` of uninitialised memory, the same at each call with this name.

        Memory for more than one chunk is newly allocated and not kept.
        """
        if nbytes > CHUNK_BYTES:
            return np.empty(nbytes, np.uint8)
        array = self._arrays.get(name)
        if array is None or array.size < nbytes:
            array = self._arrays[name] = np.empty(nbytes, np.uint8)
        return array[:nbytes]


SCRATCH: Final = Scratch()
