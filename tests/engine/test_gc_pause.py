"""The collector of cycles stays out of commits, and is as it was after each."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

from gradient import StepError
from tests.engine.training_rig import Rig


@pytest.fixture
def runs() -> Iterator[list[int]]:
    """The generations that were collected, by a collector that comes often."""
    begun: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            begun.append(info["generation"])

    thresholds = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    gc.callbacks.append(note)
    yield begun
    gc.callbacks.remove(note)
    gc.set_threshold(*thresholds)
    gc.enable()


def test_no_collection_in_a_commit(runs: list[int]) -> None:
    rig = Rig(torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(100))))
    rig.step()
    with rig.attach() as engine:
        runs.clear()
        engine.commit(1)
        assert len(runs) < 5  # at the ends, where it is on
        engine.autocommit(every=1)
        runs.clear()
        engine.maybe_commit(2)
        assert len(runs) < 5
        assert gc.isenabled()
        with pytest.raises(StepError):
            engine.commit(1)
        assert gc.isenabled()


def test_one_that_is_off_stays_off(runs: list[int]) -> None:
    rig = Rig()
    with rig.attach() as engine:
        gc.disable()
        engine.commit(1)
        assert not gc.isenabled()


def test_an_interrupt_right_after_it_was_switched_off(
    runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    disable = gc.disable

    def interrupted() -> None:
        disable()
        raise KeyboardInterrupt

    with rig.attach() as engine:
        with monkeypatch.context() as patch:
            patch.setattr(gc, "disable", interrupted)
            with pytest.raises(KeyboardInterrupt):
                engine.commit(1)
        assert gc.isenabled()
        engine.commit(1)
