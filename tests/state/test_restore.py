from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradient.errors import ConfigError, InvalidNameError, MisfitError
from gradient.state.capture import capture
from gradient.state.live_objects import RESERVED, LiveObjects, Registered, check_name
from gradient.state.restore import prepare, unpack
from gradient.state.snapshot import snapshot
from gradient.state.value_format import Pickled
from tests.state.example_runs import assert_continues, make, restore, train
from tests.state.value_roundtrip import same, through


class Box:
    """State behind a getter and a setter."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.fail: Callable[[Any], bool] = lambda value: False

    def get(self) -> Any:
        return self.value

    def set(self, value: Any) -> None:
        if self.fail(value):
            raise RuntimeError("the setter failed")
        self.value = value


def with_boxes(**boxes: Box) -> LiveObjects:
    run = make()
    run.registered = {name: Registered(box.get, box.set) for name, box in boxes.items()}
    return run


def test_a_run_goes_on_with_its_environment() -> None:
    class Environment:
        """Draws from Python's and NumPy's generators, and has one of its own."""

        def __init__(self) -> None:
            self.own = np.random.default_rng(1)
            self.seen: list[float] = []

        def step(self) -> None:
            self.seen += [random.random(), np.random.rand(), self.own.random()]

        def state_dict(self) -> dict[str, Any]:
            return {"own": self.own.bit_generator.state, "seen": tuple(self.seen)}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.own.bit_generator.state = state["own"]
            self.seen = list(state["seen"])

    environments: list[Environment] = []

    def build() -> LiveObjects:
        run = make()
        environments.append(Environment())
        run.registered["env"] = Registered.of(environments[-1])
        return run

    def step(run: LiveObjects) -> None:
        run.registered["env"].getter.__self__.step()
        train(run)

    assert_continues(build, step)
    assert environments[0].seen == environments[1].seen


def test_components_and_their_order() -> None:
    state = capture(with_boxes(a=Box(1)))
    assert list(state) == ["model", "optimizer", "scheduler", "a", "rng"]
    bare = make()
    assert list(capture(LiveObjects(bare.model))) == ["model", "rng"]


def test_a_getter_that_draws_shifts_nothing() -> None:
    run = make()
    run.registered["noise"] = Registered(lambda: torch.rand(2), lambda value: None)
    state = snapshot(capture(run))
    expected = torch.rand(3)
    restore(run, state)
    assert torch.equal(torch.rand(3), expected)


def test_a_setter_that_draws_shifts_nothing() -> None:
    run = make()
    run.registered["noise"] = Registered(lambda: 1, lambda value: torch.rand(9))
    state = snapshot(capture(run))
    expected = torch.rand(3)
    restore(run, state)
    assert torch.equal(torch.rand(3), expected)


def test_a_failing_setter_leaves_everything_as_it_was() -> None:
    first, second = Box({"a": torch.ones(2)}), Box(2)
    run = with_boxes(first=first, second=second)
    train(run, 2)
    state = snapshot(capture(run))
    train(run, 2)
    first.value, second.value = {"a": torch.zeros(2)}, 3
    before = snapshot(capture(run))
    second.fail = lambda value: value == 2
    with pytest.raises(RuntimeError, match="the setter failed"):
        restore(run, state)
    assert same(capture(run), before)
    train(run)


def test_a_failing_edit_leaves_everything_as_it_was() -> None:
    run = make(torch.optim.Adam, lr=torch.tensor(0.01))
    train(run, 2)
    state = snapshot(capture(run))
    train(run, 2)
    before = snapshot(capture(run))

    def edit() -> None:
        run.optimizer.param_groups[0]["lr"].fill_(9)
        run.optimizer.state.clear()
        raise ValueError("no")

    for components in (None, ("model",)):
        with pytest.raises(ValueError, match="no"):
            prepare(run, snapshot(state), components=components).apply(edit)
        assert same(capture(run), before)


def test_a_failing_model_is_put_back() -> None:
    class Fragile(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))
            self.armed = False

        def get_extra_state(self) -> Any:
            return "extra"

        def set_extra_state(self, state: Any) -> None:
            if self.armed:
                self.armed = False
                raise RuntimeError("fragile")

    run = LiveObjects(Fragile())
    state = snapshot(capture(run))
    state["model"]["weight"] += 1
    run.model.armed = True
    with pytest.raises(RuntimeError, match="fragile"):
        restore(run, state)
    assert torch.equal(run.model.weight, torch.zeros(2))


def test_a_required_state_that_the_checkpoint_lacks() -> None:
    state = snapshot(capture(with_boxes(old=Box(1))))
    run = with_boxes(new=Box(2))
    with pytest.raises(MisfitError) as caught:
        prepare(run, snapshot(state))
    assert caught.value.missing == ("new",)
    run.registered["new"] = Registered(lambda: 2, lambda value: None, required=False)
    plan = prepare(run, state)
    assert plan.components == ("model", "optimizer", "scheduler", "rng")
    plan.apply()


@pytest.mark.parametrize("name", ["model", "optimizer", "scheduler", "rng"])
def test_a_component_the_checkpoint_lacks(name: str) -> None:
    run = make()
    state = snapshot(capture(run))
    del state[name]
    with pytest.raises(MisfitError) as caught:
        prepare(run, snapshot(state))
    assert caught.value.missing == (name,)
    plan = prepare(run, state, strict=False)
    assert name not in plan.components
    assert plan.apply().missing == (name,)


def test_a_component_the_run_lacks() -> None:
    state = snapshot(capture(make()))
    run = make()
    run.scheduler = None
    with pytest.raises(MisfitError) as caught:
        prepare(run, snapshot(state))
    assert caught.value.unexpected == ("scheduler",)
    restore(run, state, components=("model", "optimizer", "rng"))


def test_only_known_components() -> None:
    run = with_boxes(env=Box(1))
    state = capture(run)
    with pytest.raises(ConfigError, match=r"'enw'; there are model, optimizer, scheduler, env"):
        prepare(run, state, components=("enw",))
    with pytest.raises(ConfigError, match=r'\("env",\)'):
        prepare(run, state, components="env")
    assert prepare(run, state, components=("rng", "env")).components == ("env", "rng")


def test_pickles_need_both_sides_to_opt_in() -> None:
    box = Box(datetime.date(2026, 2, 10))
    run = make()
    run.registered["date"] = Registered(box.get, box.set, pickle=True)
    state = through(capture(run))
    assert type(state["date"]) is Pickled
    box.value = None
    restore(run, state)
    assert box.value == datetime.date(2026, 2, 10)
    run.registered["date"] = Registered(box.get, box.set)
    with pytest.raises(MisfitError, match="pickle=True") as caught:
        prepare(run, snapshot(state))
    assert set(caught.value.mismatched) == {"date"}
    with pytest.raises(MisfitError, match="pickle=True"):
        unpack("date", run.registered["date"], state["date"])
    assert unpack("x", run.registered["date"], 5) == 5


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, *sorted(RESERVED)])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        check_name(name)


def test_names_that_are_fine() -> None:
    for name in ("ema", "my env", "val/loss", "Großes"):
        check_name(name)


def test_registering_needs_both_methods() -> None:
    with pytest.raises(ConfigError, match="of type list, which has no state_dict"):
        Registered.of([])
