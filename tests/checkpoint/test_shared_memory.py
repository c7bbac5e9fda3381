"""Which tensors of a value look at the same memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradient.checkpoint import shared_memory
from gradient.state.snapshot import snapshot

WINDOWS = st.lists(st.tuples(st.integers(0, 59), st.integers(1, 4)), max_size=12)


@given(WINDOWS)
def test_what_overlaps_by_way_of_others_is_one_stretch(windows: list[tuple[int, int]]) -> None:
    flat = torch.arange(64.0)
    views = [flat[start : start + length] for start, length in windows]
    together = [{number} for number in range(len(windows))]
    for one, (start, length) in enumerate(windows):
        for other, (at, size) in enumerate(windows[:one]):
            if start < at + size and at < start + length:
                mine = next(group for group in together if one in group)
                theirs = next(group for group in together if other in group)
                if mine is not theirs:
                    mine |= theirs
                    together.remove(theirs)
    storages, places = shared_memory.find_shared(views)
    expected = sorted(sorted(group) for group in together if len(group) > 1)
    numbers = {id(view): number for number, view in enumerate(views)}
    assert [[numbers[id(each)] for each in storage.members] for storage in storages] == expected
    assert places == {id(views[n]): k for k, group in enumerate(expected) for n in group}
    for storage, group in zip(storages, expected, strict=True):
        covered = {place for n in group for place in range(windows[n][0], sum(windows[n]))}
        assert (storage.start, storage.stop) == (4 * min(covered), 4 * max(covered) + 4)


@pytest.mark.parametrize("order", [1, -1])
def test_arrays_may_be_looked_at_with_several_lengths(order: int) -> None:
    """Each of torch's storages of one array is as long as its tensor, and none can grow."""
    array = np.arange(300, dtype="f4")
    tensors = [torch.from_numpy(array[:length]) for length in (100, 300)][::order]
    (storage,), places = shared_memory.find_shared(tensors)
    assert torch.equal(storage.content(), torch.from_numpy(array))
    assert len(places) == 2
    assert all(map(torch.equal, snapshot(tensors), tensors))


@given(WINDOWS)
def test_a_copy_shares_memory_as_the_original_does(windows: list[tuple[int, int]]) -> None:
    flat = torch.arange(64.0)
    views = [flat[start : start + length] for start, length in windows]
    copies = snapshot(views)
    assert all(map(torch.equal, views, copies))
    for number, (view, copied) in enumerate(zip(views, copies, strict=True)):
        view.fill_(-number)
        copied.fill_(-number)
    assert all(map(torch.equal, views, copies))
