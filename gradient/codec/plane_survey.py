"""What does a sample of a chunk say about its byte planes?"""

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
    """What a sample says about a chunk under one transform."""

    transform: int
    entropies: tuple[float, ...]
    """Bits per byte of each byte plane, the lowest first."""
    common: tuple[int, ...]
    """The most frequent byte of each."""
    share: tuple[float, ...]
    """How many of the bytes are that one."""
    local: tuple[int, ...] | None = None
    """The planes whose streams are not everywhere alike, once they were coded; None: not yet."""

    def bits(self, noise: float) -> float:
        """Return the estimated bits per element."""
        return sum(8.0 if bits > noise else bits for bits in self.entropies)

    def methods(self, noise: float) -> tuple[int, ...]:
        """Return how each byte plane is to be coded: `RAW`, `CONSTANT`, or `ZSTD` and its like."""
        return tuple(
            stream.RAW if bits > noise else stream.CONSTANT if bits == 0 else stream.ZSTD
            for bits in self.entropies
        )

    def coded(self, local: list[int]) -> Survey:
        """Return the survey with what coding has shown, where that was not known."""
        return self if self.local is not None else replace(self, local=tuple(local))

    def statistics(self, plane: int) -> stream.StreamStatistics:
        """Return what is known about the stream that begins with a plane."""
        local = None if self.local is None else plane in self.local
        return stream.StreamStatistics(
            self.entropies[plane], self.common[plane], self.share[plane], local
        )


def survey(sample: Words, transform: int) -> Survey:
    """Estimate what each byte plane of a chunk holds from a sample of its elements."""
    width = sample.itemsize
    if transform == ROTATED:
        sample = sample.copy()
        top = sample.view("<u2")[width // 2 - 1 :: width // 2]
        top[:] = (top & 0x7F80) << 1 | (top & 0x8000) >> 8 | top & 0x7F
    counts = entropy.histograms(sample.view(np.uint8).reshape(-1, width))
    shares = counts.max(axis=1) / len(sample)
    common = tuple(counts.argmax(axis=1).tolist())
    return Survey(transform, entropy.entropies(counts), common, tuple(shares.tolist()))
