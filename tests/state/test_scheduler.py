from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as lrs
from torch.optim.swa_utils import SWALR

from gradient.errors import MisfitError
from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects
from gradient.state.restore import prepare
from gradient.state.scheduler import capture_scheduler
from gradient.state.snapshot import snapshot
from tests.state.example_runs import assert_continues, make, restore, train
from tests.state.value_roundtrip import same


class Warm:
    """A callable with state, which LambdaLR keeps."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, epoch: int) -> float:
        self.calls += 1
        return 1 / (epoch + 1)


def sequential(optimizer: Any) -> Any:
    parts = [lrs.LinearLR(optimizer, total_iters=2), lrs.CosineAnnealingLR(optimizer, 9)]
    return lrs.SequentialLR(optimizer, parts, [2])


def chained(optimizer: Any) -> Any:
    return lrs.ChainedScheduler([lrs.ConstantLR(optimizer), lrs.ExponentialLR(optimizer, 0.9)])


class Plateau(lrs.ReduceLROnPlateau):
    """Steps on a metric that does not improve."""

    def step(self, *_: Any) -> None:
        super().step(1.0)


def custom_cycle(optimizer: Any) -> Any:
    return lrs.CyclicLR(optimizer, 0.01, 0.1, 3, scale_fn=lambda x: 0.5**x, scale_mode="cycle")


SCHEDULERS: dict[str, list[Callable[[Any], Any]]] = {
    "ChainedScheduler": [chained],
    "ConstantLR": [lrs.ConstantLR],
    "CosineAnnealingLR": [lambda o: lrs.CosineAnnealingLR(o, 5, eta_min=0.001)],
    "CosineAnnealingWarmRestarts": [lambda o: lrs.CosineAnnealingWarmRestarts(o, 2, 2)],
    "CyclicLR": [
        lambda o: lrs.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9),
        lambda o: lrs.CyclicLR(o, 0.01, 0.1, 2, mode="triangular2"),
        custom_cycle,
    ],
    "ExponentialLR": [lambda o: lrs.ExponentialLR(o, 0.9)],
    "LambdaLR": [lambda o: lrs.LambdaLR(o, Warm()), lambda o: lrs.LambdaLR(o, lambda e: 0.9**e)],
    "LinearLR": [lambda o: lrs.LinearLR(o, total_iters=4)],
    "MultiStepLR": [lambda o: lrs.MultiStepLR(o, [2, 4, 4])],
    "MultiplicativeLR": [lambda o: lrs.MultiplicativeLR(o, lambda e: 0.9)],
    "OneCycleLR": [
        lambda o: lrs.OneCycleLR(o, 0.1, total_steps=20),
        lambda o: lrs.OneCycleLR(
            o, 0.1, total_steps=20, three_phase=True, anneal_strategy="linear"
        ),
    ],
    "PolynomialLR": [lambda o: lrs.PolynomialLR(o, 9, 2.0)],
    "ReduceLROnPlateau": [lambda o: Plateau(o, patience=1, cooldown=1)],
    "SequentialLR": [sequential],
    "StepLR": [lambda o: lrs.StepLR(o, 2)],
    "SWALR": [lambda o: SWALR(o, 0.05, 4), lambda o: SWALR(o, 0.05, 4, "linear")],
}
CASES = [(name, i) for name, makers in SCHEDULERS.items() for i in range(len(makers))]


def test_every_scheduler_of_torch_is_here() -> None:
    classes = {c for c in vars(lrs).values() if isinstance(c, type)} | {SWALR}
    ours = {c.__name__ for c in classes if issubclass(c, lrs.LRScheduler)}
    assert ours - {"LRScheduler", "_LRScheduler"} == set(SCHEDULERS)


@pytest.mark.parametrize(("name", "index"), CASES)
@pytest.mark.parametrize("tensor", [False, True], ids=["float", "tensor"])
def test_every_scheduler_goes_on_to_the_bit(name: str, index: int, tensor: bool) -> None:
    def build() -> LiveObjects:
        rate = torch.tensor(0.01) if tensor else 0.01
        return make(torch.optim.SGD, SCHEDULERS[name][index], lr=rate, momentum=0.9)

    assert_continues(build)


def test_functions_are_code_and_stay() -> None:
    class Custom(lrs.StepLR):
        def __init__(self, optimizer: Any) -> None:
            self.shape = lambda x: x
            super().__init__(optimizer, 2)

    run = make(torch.optim.SGD, Custom)
    assert "shape" not in capture_scheduler(run.scheduler)
    assert_continues(lambda: make(torch.optim.SGD, Custom))


def test_another_class_is_a_misfit() -> None:
    run = make(torch.optim.SGD, lambda o: lrs.StepLR(o, 2))
    train(run)
    state = snapshot(capture(run))
    other = make(torch.optim.SGD)
    before = snapshot(capture(other))
    with pytest.raises(MisfitError) as caught:
        prepare(other, snapshot(state))
    assert set(caught.value.missing) == {"scheduler.T_max", "scheduler.eta_min"}
    assert set(caught.value.unexpected) == {"scheduler.step_size", "scheduler.gamma"}
    assert same(capture(other), before)
    restore(other, state, strict=False)
    assert same(capture(other)["scheduler"], before["scheduler"])


def test_another_number_of_parts_is_a_misfit() -> None:
    state = snapshot(capture(make(torch.optim.SGD, chained)))
    other = make(torch.optim.SGD, lambda o: lrs.ChainedScheduler([lrs.ConstantLR(o)]))
    with pytest.raises(MisfitError, match="saved 2 schedulers, here 1"):
        prepare(other, state)


def test_differences_are_told() -> None:
    run = make(torch.optim.SGD, lambda o: lrs.StepLR(o, 2))
    train(run)
    state = snapshot(capture(run))
    other = make(torch.optim.SGD, lambda o: lrs.StepLR(o, 3))
    found = {
        (d.where, d.option): (d.script, d.checkpoint) for d in restore(other, state).differences
    }
    assert found == {("scheduler", "step_size"): (3, 2)}
    assert not restore(other, state).differences


class Own:
    """A scheduler of the user's."""

    def __init__(self) -> None:
        self.state: Any = {"any": (1, "thing")}

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


def test_anything_with_a_state_dict_is_a_scheduler() -> None:
    run = make()
    run.scheduler = Own()
    state = snapshot(capture(run))
    run.scheduler.state = {}
    restore(run, state)
    assert run.scheduler.state == {"any": (1, "thing")}
