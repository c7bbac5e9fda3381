"""Registered state is restored bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from gradient.engine.registered_state import load_exactly, load_uncast, registered
from gradient.errors import ConfigError, MisfitError
from gradient.state.snapshot import snapshot
from tests.engine.training_rig import Rig, assert_same
from tests.state.value_roundtrip import same


def optimizer(width: int = 3) -> torch.optim.Adam:
    """Make bf16 parameters with moments of full precision, which torch would cast."""
    parameters = [torch.nn.Parameter(torch.randn(width, dtype=torch.bfloat16)) for _ in range(2)]
    made = torch.optim.Adam(
        [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}], lr=0.1
    )
    for parameter in parameters:
        made.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": torch.randn(width)}
    return made


def test_moments_keep_their_dtype() -> None:
    source, target = optimizer(), optimizer()
    saved = snapshot(source.state_dict())
    entry = registered(target, None, required=True, pickle=False)
    entry.setter(snapshot(saved))
    assert_same(entry.getter(), saved)


def test_other_groups_are_a_misfit_and_change_nothing() -> None:
    target = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))], lr=0.3)
    before = snapshot(target.state_dict())
    with pytest.raises(MisfitError, match="2 groups, here 1"):
        load_exactly(target, snapshot(optimizer().state_dict()))
    assert_same(target.state_dict(), before)


def test_a_module_of_another_dtype_is_a_misfit_and_changes_nothing() -> None:
    rig = Rig()
    engine = rig.attach()
    average = torch.optim.swa_utils.AveragedModel(rig.model)
    engine.register_state("average", average)
    rig.train(engine, 1)
    average.update_parameters(rig.model)
    engine.commit(2)
    engine.close()
    other, rounded = Rig(), torch.optim.swa_utils.AveragedModel(Rig().model).bfloat16()
    engine = other.attach("elsewhere")
    engine.register_state("average", rounded)
    before, values = other.state(), snapshot(rounded.state_dict())
    with pytest.raises(MisfitError, match=r"module.0.weight: saved torch.float32, here torch.bf"):
        engine.resume("main@2")
    assert_same(other.state(), before)
    assert same(rounded.state_dict(), values)
    exact = torch.optim.swa_utils.AveragedModel(Rig().model)
    entry = registered(exact, None, required=True, pickle=False)
    entry.setter(snapshot(average.state_dict()))
    assert same(exact.state_dict(), average.state_dict())


class Decay(LRScheduler):
    """A scheduler of the script's own, with a function in it."""

    def __init__(self, optimizer: torch.optim.Optimizer, rate: float) -> None:
        self.factor = lambda step: rate**step
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]


def test_a_tied_module_takes_one_value_for_its_one_weight() -> None:
    def twins() -> torch.nn.Sequential:
        return torch.nn.Sequential(*(torch.nn.Linear(3, 3, bias=False) for _ in range(2)))

    source, target = twins(), twins()
    target[1].weight = target[0].weight
    before = snapshot(target.state_dict())
    with pytest.raises(MisfitError, match=r"1\.weight: here tied to 0\.weight, saved apart"):
        load_uncast(target, source.state_dict())
    assert same(target.state_dict(), before)
    source[1].weight = source[0].weight
    load_uncast(target, source.state_dict())
    assert all(map(torch.equal, target.state_dict().values(), source.state_dict().values()))


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_may_be_twice_in_a_group() -> None:
    def twice() -> torch.optim.SGD:
        one, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        return torch.optim.SGD([one, one, other], momentum=0.9)

    source, target = twice(), twice()
    for parameter in source.param_groups[0]["params"]:
        parameter.grad = torch.randn(3)
    source.step()
    load_exactly(target, snapshot(source.state_dict()))
    assert_same(target.state_dict(), source.state_dict())


def test_a_scheduler_keeps_its_functions() -> None:
    rig = Rig()
    engine = rig.attach()
    second = optimizer()
    schedule = Decay(second, 0.5)
    engine.register_state("second", second)
    engine.register_state("schedule", schedule)
    second.step()
    schedule.step()
    engine.commit(1)
    engine.close()
    engine = Rig().attach(resume="latest")
    other = optimizer()
    again = Decay(other, 0.1)
    engine.register_state("second", other)
    engine.register_state("schedule", again)
    other.step()
    again.step()
    assert [group["lr"] for group in other.param_groups] == [0.1 * 0.1**2, 0.5 * 0.1**2]


def test_what_has_no_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="register a getter and a setter"):
        registered([], None, required=True, pickle=False)
