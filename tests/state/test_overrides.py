from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as lrs

from gradient.errors import ConfigError
from gradient.state import overrides
from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects
from gradient.state.snapshot import snapshot
from tests.state.example_runs import make, restore, train
from tests.state.test_scheduler import SCHEDULERS, chained, sequential
from tests.state.value_roundtrip import same


def rates(run: LiveObjects, steps: int) -> list[float]:
    result = []
    for _ in range(steps):
        result.append(float(run.optimizer.param_groups[0]["lr"]))
        train(run)
    return result


def group(run: LiveObjects) -> dict[str, Any]:
    found: dict[str, Any] = run.optimizer.param_groups[0]
    return found


CLOSED = {
    "ConstantLR": 1,
    "ExponentialLR": 1,
    "LambdaLR": 2,
    "LinearLR": 1,
    "MultiStepLR": 1,
    "MultiplicativeLR": 1,
    "OneCycleLR": 2,
    "CyclicLR": 3,
    "PolynomialLR": 1,
    "StepLR": 1,
    "ChainedScheduler": 1,
}
"""Schedulers whose every rate is in proportion to the rates they were given."""


@pytest.mark.parametrize("tensor", [False, True], ids=["float", "tensor"])
@pytest.mark.parametrize(("name", "index"), [(n, i) for n, k in CLOSED.items() for i in range(k)])
def test_scaling_scales_every_later_rate(name: str, index: int, tensor: bool) -> None:
    def build() -> LiveObjects:
        rate = torch.tensor(0.01, dtype=torch.float64) if tensor else 0.01
        run = make(torch.optim.SGD, SCHEDULERS[name][index], lr=rate, momentum=0.9)
        train(run, 2)
        return run

    plain, scaled = build(), build()
    overrides.scale_lr(scaled.optimizer, scaled.scheduler, 10)
    assert type(group(scaled)["lr"]) is type(group(plain)["lr"])
    expected = [10 * rate for rate in rates(plain, 8)]
    assert rates(scaled, 8) == pytest.approx(expected)


def test_setting_the_rate_reaches_every_place() -> None:
    for scheduler in (lambda o: lrs.LambdaLR(o, lambda e: 0.9**e), sequential, chained):
        run = make(torch.optim.SGD, scheduler)
        train(run, 3)
        overrides.set_options(run.optimizer, run.scheduler, {"lr": 1e-2 * 7})
        assert group(run)["lr"] == group(run)["initial_lr"] == 1e-2 * 7
        parts: list[Any] = [run.scheduler, *getattr(run.scheduler, "_schedulers", ())]
        for part in parts:
            assert getattr(part, "base_lrs", [1e-2 * 7]) == [1e-2 * 7]
        assert run.scheduler.get_last_lr() == [1e-2 * 7]


def test_a_lambda_goes_on_from_the_new_rate() -> None:
    run = make(torch.optim.SGD, lambda o: lrs.LambdaLR(o, lambda e: 0.5**e))
    train(run, 2)
    overrides.set_options(run.optimizer, run.scheduler, {"lr": 1.0})
    assert rates(run, 3) == [1.0, 0.125, 0.0625]


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_setting_the_rate_scales_a_cycle(name: str) -> None:
    def build() -> LiveObjects:
        run = make(torch.optim.SGD, SCHEDULERS[name][0], momentum=0.9)
        train(run, 4)
        return run

    plain, other = build(), build()
    overrides.set_options(other.optimizer, other.scheduler, {"lr": 0.5})
    assert group(other)["lr"] == 0.5
    factor = 0.5 / group(plain)["lr"]
    assert rates(other, 6) == pytest.approx([factor * rate for rate in rates(plain, 6)])


def test_a_cycle_that_stands_at_zero() -> None:
    run = make(torch.optim.SGD, lambda o: lrs.CyclicLR(o, 0.0, 0.1, 4), momentum=0.9)
    overrides.set_options(run.optimizer, run.scheduler, {"lr": 1.0})
    assert run.scheduler.max_lrs == [1.0]


def test_setting_other_options() -> None:
    run = make(torch.optim.AdamW)
    options = {"weight_decay": 1, "betas": [0.8, 0.9], "amsgrad": True, "initial_lr": 0.3}
    overrides.set_options(run.optimizer, run.scheduler, options)
    assert group(run)["weight_decay"] == 1.0
    assert type(group(run)["weight_decay"]) is float
    assert group(run)["betas"] == (0.8, 0.9)
    assert group(run)["amsgrad"] is True
    assert run.scheduler.base_lrs == [0.3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentun": 0.9}, "no param-group option 'momentun'; there are .*momentum, "),
        ({"params": []}, "no param-group option 'params'"),
        ({"lr": -1}, "cannot become -1"),
        ({"lr": "0.1"}, "cannot become '0.1'"),
        ({"lr": True}, "cannot become True"),
        ({"lr": float("nan")}, "cannot become nan"),
        ({"nesterov": 3}, "cannot become 3"),
        ({"momentum": None}, "cannot become None"),
    ],
    ids=str,
)
def test_bad_options_change_nothing(options: dict[str, Any], message: str) -> None:
    run = make(torch.optim.SGD, momentum=0.9)
    before = snapshot(capture(run))
    with pytest.raises(ConfigError, match=message):
        overrides.set_options(run.optimizer, run.scheduler, {"lr": 5.0, **options})
    assert same(capture(run), before)


@pytest.mark.parametrize("factor", [0, -1, float("inf"), float("nan"), "2", True])
def test_bad_factors(factor: Any) -> None:
    run = make()
    with pytest.raises(ConfigError, match="scale_lr"):
        overrides.scale_lr(run.optimizer, run.scheduler, factor)


@pytest.mark.parametrize(
    "name", [name for name in SCHEDULERS if name not in ("ReduceLROnPlateau", "SWALR")]
)
def test_a_reset_scheduler_starts_afresh(name: str) -> None:
    def build() -> LiveObjects:
        torch.manual_seed(0)
        return make(torch.optim.SGD, SCHEDULERS[name][0], momentum=0.9)

    fresh, run = build(), build()
    start = overrides.baseline(run.optimizer, run.scheduler)
    train(run, 5)
    source = snapshot(capture(run))
    train(run, 2)
    restore(run, source, components=("model", "optimizer"))
    overrides.reset_scheduler(run.optimizer, run.scheduler, start)
    assert same(capture(run)["scheduler"], capture(fresh)["scheduler"])
    assert same(
        capture(run)["optimizer"]["param_groups"], capture(fresh)["optimizer"]["param_groups"]
    )
    assert rates(run, 6) == rates(fresh, 6)


def test_a_reset_scheduler_drops_what_another_wrote() -> None:
    cycle = make(torch.optim.SGD, lambda o: lrs.OneCycleLR(o, 0.1, total_steps=9), momentum=0.9)
    train(cycle, 2)
    source = snapshot(capture(cycle))
    run = make(torch.optim.SGD, lambda o: lrs.StepLR(o, 2), momentum=0.9)
    start = overrides.baseline(run.optimizer, run.scheduler)
    restore(run, source, components=("model", "optimizer"))
    overrides.reset_scheduler(run.optimizer, run.scheduler, start)
    assert "max_lr" not in group(run)
    assert group(run)["lr"] == 0.01


@pytest.mark.parametrize("name", ["Adagrad", "AdamW", "SGD", "LBFGS"])
def test_a_reset_optimizer_starts_afresh(name: str) -> None:
    run = make(getattr(torch.optim, name))
    train(run, 2)
    source = snapshot(capture(run))
    overrides.reset_optimizer(run.optimizer, source["optimizer"])
    fresh = make(getattr(torch.optim, name), model=run.model)
    assert same(capture(run)["optimizer"]["state"], capture(fresh)["optimizer"]["state"])
    assert same(capture(run)["optimizer"]["param_groups"], source["optimizer"]["param_groups"])
    train(run)


def test_a_subclass_is_reset_too() -> None:
    class Mine(torch.optim.Adagrad):
        def __init__(self, params: Any, lr: float, mine: int = 3) -> None:
            super().__init__(params, lr)
            self.defaults["mine"] = mine

    run = make(Mine)
    train(run, 2)
    overrides.reset_optimizer(run.optimizer)
    assert {float(s["step"]) for s in run.optimizer.state.values()} == {0.0}
    train(run)


def test_a_reset_onto_another_class_takes_what_the_scheduler_writes() -> None:
    run = make(torch.optim.SGD, momentum=0.9, lr=0.05)
    train(run, 3)
    source = snapshot(capture(run))
    other = make(torch.optim.AdamW, weight_decay=0.3)
    restore(other, source, components=("model", "scheduler", "rng"))
    overrides.reset_optimizer(other.optimizer, source["optimizer"])
    assert group(other)["lr"] == source["optimizer"]["param_groups"][0]["lr"]
    assert group(other)["initial_lr"] == 0.05
    assert group(other)["weight_decay"] == 0.3
    train(other)


def test_what_has_no_state_cannot_be_reset() -> None:
    with pytest.raises(ConfigError, match="a object has no state"):
        overrides.reset_optimizer(object())
