"""How far does one stream of bytes shrink, and by which coder?

Bytes of a tensor's plane have a skewed distribution and no repetitions, so zstd is set up as an
entropy coder that does not look for matches. Streams that are nearly constant (or text) do repeat,
and get zstd's ordinary search.

Decoding follows one rule: the caller knows how many bytes must come out, and nothing in the stored
bytes can make it allocate more.
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
"""Elements in a sample."""

_RUNS: Final = 16
_WINDOW_LIMIT: Final = 1 << 23


class Coder(Enum):
    """How zstd is set up; the decoder need not know."""

    ENTROPY = "entropy"
    """Huffman codes only."""
    LOCAL = "local"
    """Huffman codes, made anew every 16 KiB: for streams that are not everywhere alike."""
    REPEATS = "repeats"
    """Level 1: for streams that are nearly constant."""
    TEXT = "text"
    """Level 3: for anything that is not a plane of numbers."""


class _Contexts(threading.local):
    """One compressor per setting and one decompressor for each thread."""

    def __init__(self) -> None:
        self.compressors = {
            Coder.ENTROPY: _huffman(window_log=17),
            Coder.LOCAL: _huffman(window_log=14),
            Coder.REPEATS: zstandard.ZstdCompressor(level=1),
            Coder.TEXT: zstandard.ZstdCompressor(level=3),
        }
        self.decompressor = zstandard.ZstdDecompressor()


def _huffman(*, window_log: int) -> zstandard.ZstdCompressor:
    """Set zstd up to find as few repetitions as it can; a block is as long as its window."""
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
    """Return one zstd frame that records its content's length."""
    return _CONTEXTS.compressors[coder].compress(data)


def try_coders(
    data: memoryview, coders: tuple[Coder, Coder], *, nbytes: int, worth: float
) -> Coder:
    """Return the second coder where it pays for the `nbytes` bytes in the middle of `data`.

    That is, where it makes less than `worth` times of them what the first one makes.
    """
    start = max(0, len(data) - nbytes) // 2
    usual, other = (len(compress(data[start : start + nbytes], coder)) for coder in coders)
    return coders[other < worth * usual]


def decompress(frame: memoryview, nbytes: int) -> bytes:
    """Return the `nbytes` bytes that `frame` holds.

    Raises MalformedObjectError unless it is exactly one zstd frame with exactly that content.
    """
    try:
        header = zstandard.get_frame_parameters(frame)
        # Before anything is allocated: python-zstandard sizes its output by this field.
        if header.content_size != nbytes:
            raise MalformedObjectError(f"a zstd frame does not announce {nbytes} bytes of content")
        if header.window_size > max(_WINDOW_LIMIT, nbytes):
            raise MalformedObjectError(f"a zstd frame wants a window of {header.window_size} bytes")
        # Fails for other content than announced, for a dictionary, and for what follows the frame.
        return _CONTEXTS.decompressor.decompress(
            frame, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise MalformedObjectError(f"a zstd frame cannot be decoded: {error}") from None


def sample_indices(count: int) -> list[slice]:
    """Return where to look among `count` elements: a few runs, `SAMPLE` elements in all."""
    if count <= SAMPLE:
        return [slice(0, count)]
    run = SAMPLE // _RUNS
    return [slice(s, s + run) for s in range(0, count - run + 1, (count - run) // (_RUNS - 1))]


def histograms(samples: Bytes) -> Counts:
    """Count how often each byte occurs in each column of at most `SAMPLE` rows."""
    columns = samples.shape[1]
    places = samples + _FIRSTS[:columns]
    return np.bincount(places.ravel(), minlength=256 * columns).reshape(columns, 256)


def entropies(counts: Counts) -> tuple[float, ...]:
    """Estimate the entropy, in bits per byte, of what the samples with these counts came from.

    The estimate is zero only for a sample of one value. A sample never holds all that its source
    does, so its own entropy is too low; Miller and Madow's term makes up for that.
    """
    count = int(counts[0].sum())
    values = np.count_nonzero(counts, axis=1)
    known = _LOG[count] - _WEIGHTED[counts].sum(axis=1) / count
    found = known + (values - 1) * (_MILLER_MADOW / count)
    return tuple(np.where(values > 1, found, 0.0).tolist())


_FIRSTS: Final = np.arange(0, 256 * 8, 256, dtype=np.uint16)
"""Where each column's counts begin."""
_LOG: Final = np.log2(np.arange(SAMPLE + 1).clip(1))
_WEIGHTED: Final = np.arange(SAMPLE + 1) * _LOG
_MILLER_MADOW: Final = 1 / (2 * math.log(2))
