"""The epoch that an interrupted run resumes in."""

from __future__ import annotations

import pytest
import torch

from gradient import GradientEngine
from tests.engine.training_rig import Rig

DATA = list(range(12))


def loader_of(engine: GradientEngine) -> torch.utils.data.DataLoader[int]:
    data = torch.utils.data.DataLoader(DATA, batch_size=3, shuffle=True)  # type: ignore[arg-type]
    return engine.loader(data)  # type: ignore[return-value]


def whole() -> list[tuple[int, list[int]]]:
    """Return every batch of three epochs, uninterrupted."""
    torch.manual_seed(3)
    engine = Rig().attach("whole")
    loader = loader_of(engine)
    return [(epoch, batch.tolist()) for epoch in engine.epochs(0, 3) for batch in loader]


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_run_cut_after_any_batch_goes_on_with_the_next(cut: int) -> None:
    expected = whole()
    torch.manual_seed(3)
    rig = Rig()
    engine = rig.attach("cut")
    loader = loader_of(engine)
    seen = []
    for epoch in engine.epochs(0, 3):
        for batch in loader:
            seen.append((epoch, batch.tolist()))
            engine.commit(len(seen))
    assert seen == expected
    torch.manual_seed(99)
    other = Rig().attach("resumed")
    other.resume(f"cut@{cut}")
    loader = loader_of(other)
    torch.rand(3)
    rest = [(epoch, batch.tolist()) for epoch in other.epochs(0, 3) for batch in loader]
    assert rest == expected[cut:]


def test_epochs_count_as_range_does() -> None:
    engine = Rig().attach()
    assert list(engine.epochs(3)) == [0, 1, 2]
    assert list(engine.epochs(1, 3)) == [1, 2]


def test_a_commit_after_the_epochs_last_batch_resumes_with_the_next_epoch() -> None:
    rig = Rig()
    engine = rig.attach("main")
    loader = loader_of(engine)
    for epoch in engine.epochs(0, 2):
        for _ in loader:
            pass
        engine.commit(epoch)
    other = Rig().attach(resume="main@0")
    loader_of(other)
    assert list(other.epochs(0, 2)) == [1]


def test_without_loaders_a_commit_is_the_end_of_its_epoch() -> None:
    engine = Rig().attach()
    for epoch in engine.epochs(0, 5):
        engine.commit(epoch)
        if epoch == 2:
            break
    assert list(Rig().attach(resume="auto").epochs(0, 5)) == [3, 4]


def test_an_epoch_is_not_begun_twice_by_asking_twice() -> None:
    engine = Rig().attach()
    assert list(engine.epochs(0, 2)) == [0, 1]
    assert list(engine.epochs(2, 4)) == [2, 3]
