"""Compression of one stream of bytes with zstd, and estimates of the compressed size.

The bytes of a tensor's plane have a skewed distribution and few repetitions, so zstd is configured
as an entropy coder that does not search for matches. Streams that are nearly constant, and text,
have repetitions and use zstd's normal search.

Rule: a caller of the decoder knows the decoded length, and stored bytes cannot make the decoder
allocate more.
"""

from __future__ import annotations

import math
import threading
from enum import Enum
from typing import TYPE_CHECKING, Final

import numpy as np
import zstandard

from gradient.errors import MalformedObjectError

if TYPE_CHECKING:
    import numpy.typing as npt

    from gradient.codec.scratch_buffers import Bytes

    Counts = npt.NDArray[np.intp]

SAMPLE: Final = 2048
"""The number of elements in a sample."""

_RUNS: Final = 16
_WINDOW_LIMIT: Final = 1 << 23


class Coder(Enum):
    """A configuration of zstd; the decoder does not depend on it."""

    ENTROPY = "entropy"
    """Huffman coding only."""
    LOCAL = "local"
    """Huffman coding with a new table every 16 KiB, for streams whose distribution varies."""
    REPEATS = "repeats"
    """Level 1, for streams that are nearly constant."""
    TEXT = "text"
    """Level 3, for data that is not a plane of numbers."""


class _Contexts(threading.local):
    """The compressors, one per `Coder`, and the decompressor of each thread."""

    def __init__(self) -> None:
        self.compressors = {
            Coder.ENTROPY: _huffman(window_log=17),
            Coder.LOCAL: _huffman(window_log=14),
            Coder.REPEATS: zstandard.ZstdCompressor(level=1),
            Coder.TEXT: zstandard.ZstdCompressor(level=3),
        }
        self.decompressor = zstandard.ZstdDecompressor()


def _huffman(*, window_log: int) -> zstandard.ZstdCompressor:
    """Configure zstd to search for as few matches as possible; a block is as long as its window."""
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        min_match=7,
        hash_log=6,
        chain_log=6,
        search_log=1,
        target_length=0,
        window_log=window_log,
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


_CONTEXTS: Final = _Contexts()


def compress(data: memoryview, coder: Coder) -> bytes:
    """Return one zstd frame that records the length of its content."""
    return _CONTEXTS.compressors[coder].compress(data)


def try_coders(
    data: memoryview, coders: tuple[Coder, Coder], *, nbytes: int, worth: float
) -> Coder:
    """Try two coders on the `nbytes` bytes in the middle of `data` and return one of them.

    The second is returned if its output is smaller than `worth` times the output of the first.
    """
    start = max(0, len(data) - nbytes) // 2
    usual, other = (len(compress(data[start : start + nbytes], coder)) for coder in coders)
    return coders[other < worth * usual]


def decompress(frame: memoryview, nbytes: int) -> bytes:
    """Return the `nbytes` bytes that `frame` contains.

    Raises MalformedObjectError unless it is exactly one zstd frame with exactly that content.
    """
    try:
        header = zstandard.get_frame_parameters(frame)
        # Checked before anything is allocated: python-zstandard allocates by this field.
        if header.content_size != nbytes:
            raise MalformedObjectError(f"a zstd frame does not announce {nbytes} bytes of content")
        if header.window_size > max(_WINDOW_LIMIT, nbytes):
            raise MalformedObjectError(f"a zstd frame wants a window of {header.window_size} bytes")
        # Raises if the content has another length, if a dictionary is needed, or if bytes follow.
        return _CONTEXTS.decompressor.decompress(
            frame, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise MalformedObjectError(f"a zstd frame cannot be decoded: {error}") from None


def sample_indices(count: int) -> list[slice]:
    """Return the slices of a sample of `count` elements: a few runs, `SAMPLE` elements in all."""
    if count <= SAMPLE:
        return [slice(0, count)]
    run = SAMPLE // _RUNS
    return [slice(s, s + run) for s in range(0, count - run + 1, (count - run) // (_RUNS - 1))]


def histograms(samples: Bytes) -> Counts:
    """Count the occurrences of each byte in each column of at most `SAMPLE` rows."""
    columns = samples.shape[1]
    places = samples + _FIRSTS[:columns]
    return np.bincount(places.ravel(), minlength=256 * columns).reshape(columns, 256)


def entropies(counts: Counts) -> tuple[float, ...]:
    """Estimate the entropy of the sampled streams, in bits per byte, from the samples' counts.

    The entropy of a sample is lower than the entropy of its source. The bias correction of Miller
    and Madow, ``(m - 1) / (2 n)`` nats for m values in n samples (G. Miller, Note on the bias of
    information estimates, 1955), compensates for that. The estimate is zero only if the sample has
    a single value.
    """
    count = int(counts[0].sum())
    values = np.count_nonzero(counts, axis=1)
    known = _LOG[count] - _WEIGHTED[counts].sum(axis=1) / count
    found = known + (values - 1) * (_MILLER_MADOW / count)
    return tuple(np.where(values > 1, found, 0.0).tolist())


_FIRSTS: Final = np.arange(0, 256 * 8, 256, dtype=np.uint16)
"""The index of the first count of each column."""
_LOG: Final = np.log2(np.arange(SAMPLE + 1).clip(1))
_WEIGHTED: Final = np.arange(SAMPLE + 1) * _LOG
_MILLER_MADOW: Final = 1 / (2 * math.log(2))
