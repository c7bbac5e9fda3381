from __future__ import annotations

import numpy as np
import pytest

from gradient.codec import entropy
from gradient.codec.entropy import SAMPLE, Coder
from gradient.errors import MalformedObjectError


@pytest.mark.parametrize("size", [1, 3, 1000, SAMPLE])
def test_one_value_has_no_entropy(size: int) -> None:
    counts = entropy.histograms(np.full((size, 2), 200, np.uint8))
    assert entropy.entropies(counts) == (0, 0)


def test_estimates_are_near_the_truth() -> None:
    generator = np.random.default_rng(1)
    columns = [generator.integers(0, values, SAMPLE) for values in (256, 128, 4, 1)]
    counts = entropy.histograms(np.stack(columns, axis=1).astype(np.uint8))
    assert entropy.entropies(counts) == pytest.approx((8, 7, 2, 0), abs=0.03)


@pytest.mark.parametrize("count", [1, SAMPLE, SAMPLE + 1, 100_000, 1 << 20])
def test_samples_stay_inside(count: int) -> None:
    runs = [range(count)[run] for run in entropy.sample_indices(count)]
    assert sum(len(run) for run in runs) == min(count, SAMPLE)
    assert all(0 <= run.start < run.stop <= count for run in runs)


@pytest.mark.parametrize("coder", Coder)
def test_frames_record_their_length(coder: Coder) -> None:
    data = bytes(range(256)) * 100
    frame = memoryview(entropy.compress(memoryview(data), coder))
    assert entropy.decompress(frame, len(data)) == data
    for wrong in (0, len(data) - 1, len(data) + 1):
        with pytest.raises(MalformedObjectError):
            entropy.decompress(frame, wrong)
