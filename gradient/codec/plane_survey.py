"""Estimates of the statistics of a chunk's byte planes, from a sample of its elements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from gradient.codec import entropy, stream

if TYPE_CHECKING:
    from gradient.codec.elements import Words

PLAIN: Final = 0
ROTATED: Final = 1


@dataclass(frozen=True, slots=True)
class Survey:
    """The estimated statistics of a chunk's byte planes under one transform."""

    transform: int
    entropies: tuple[float, ...]
    """The entropy of each byte plane in bits per byte, the lowest plane first."""
    common: tuple[int, ...]
    """The most frequent byte of each plane."""
    share: tuple[float, ...]
    """The fraction of the bytes of each plane that equal `common`."""
    local: tuple[int, ...] | None = None
    """The planes whose distribution varies along the stream; None before they were coded."""

    def bits(self, noise: float) -> float:
        """Return the estimated number of bits per element."""
        return sum(8.0 if bits > noise else bits for bits in self.entropies)

    def methods(self, noise: float) -> tuple[int, ...]:
        """Return the method of each byte plane: `RAW`, `CONSTANT`, or `ZSTD` for all others."""
        return tuple(
            stream.RAW if bits > noise else stream.CONSTANT if bits == 0 else stream.ZSTD
            for bits in self.entropies
        )

    def coded(self, local: list[int]) -> Survey:
        """Return the survey with `local` added, unless it was known."""
        return self if self.local is not None else replace(self, local=tuple(local))

    def statistics(self, plane: int) -> stream.StreamStatistics:
        """Return the statistics of the stream that begins with a plane."""
        local = None if self.local is None else plane in self.local
        return stream.StreamStatistics(
            self.entropies[plane], self.common[plane], self.share[plane], local
        )


def survey(sample: Words, transform: int) -> Survey:
    """Estimate the statistics of each byte plane from a sample of the elements."""
    width = sample.itemsize
    if transform == ROTATED:
        sample = sample.copy()
        top = sample.view("<u2")[width // 2 - 1 :: width // 2]
        top[:] = (top & 0x7F80) << 1 | (top & 0x8000) >> 8 | top & 0x7F
    counts = entropy.histograms(sample.view(np.uint8).reshape(-1, width))
    shares = counts.max(axis=1) / len(sample)
    common = tuple(counts.argmax(axis=1).tolist())
    return Survey(transform, entropy.entropies(counts), common, tuple(shares.tolist()))
