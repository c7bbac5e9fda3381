"""Random numbers drawn between a resume and the loop do not shift the resumed run."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from gradient import GradientEngine
from tests.engine.training_rig import Rig, assert_same, trained


def draw() -> tuple[float, float, float]:
    """Draw from every generator."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.fixture
def expected() -> tuple[float, float, float]:
    """Commit a step, and draw what comes next."""
    _, engine = trained(1)
    engine.close()
    return draw()


def resumed() -> tuple[Rig, GradientEngine]:
    rig = Rig()
    engine = rig.attach(resume="latest")
    draw()  # a model summary, a look at a first batch
    return rig, engine


BEGINNINGS: dict[str, Callable[[GradientEngine], object]] = {
    "current_step": lambda engine: engine.current_step,
    "start": lambda engine: engine.start(),
    "steps": lambda engine: next(iter(engine.steps(9))),
    "epochs": lambda engine: engine.epochs(0, 1),
}


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_what_is_drawn_before_the_loop_does_not_shift_it(
    begin: Callable[[GradientEngine], object], expected: tuple[float, ...]
) -> None:
    _, engine = resumed()
    begin(engine)
    draw()
    begin(engine)
    assert draw() == expected


def test_steps_begin_with_the_first_one_not_with_the_call(expected: tuple[float, ...]) -> None:
    _, engine = resumed()
    steps = engine.steps(3)
    draw()
    assert next(steps) == 2
    assert draw() == expected
    assert list(steps) == [3]


def test_steps_end_at_stop_inclusive() -> None:
    assert list(Rig().attach().steps(3)) == [1, 2, 3]
    _, engine = trained(3, branch="other")
    assert list(engine.steps(3)) == []
    assert list(engine.steps(2)) == []


ENDS: dict[str, Callable[[Rig, GradientEngine], object]] = {
    "optimizer step": lambda rig, engine: rig.step(),
    "commit": lambda rig, engine: engine.commit(2),
    "maybe_commit": lambda rig, engine: engine.maybe_commit(2),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_later_reads_change_nothing(
    end: Callable[[Rig, GradientEngine], object], expected: tuple[float, ...]
) -> None:
    rig, engine = resumed()
    assert engine.current_step == 1
    end(rig, engine)
    before = rig.state()
    for begin in BEGINNINGS.values():
        begin(engine)
    assert_same(rig.state(), before)


@pytest.mark.parametrize("begin", ["start", "steps", "epochs"])
def test_reads_in_a_loop_that_was_announced_change_nothing(
    begin: str, expected: tuple[float, ...]
) -> None:
    _, engine = resumed()
    running = iter(engine.epochs(0, 1) if begin == "epochs" else engine.steps(9))
    if begin == "start":
        engine.start()
    else:
        next(running)
    assert draw() == expected
    after = draw()
    for _ in range(2):  # rollouts, or forward passes, before the first gradient
        assert engine.current_step == 1
    assert draw() != after


def accumulate(rig: Rig, engine: GradientEngine | None, steps: range) -> list[float]:
    """Train with gradients of three batches each, reading the step for every one of them."""
    losses: list[float] = []
    for step in steps:
        for _ in range(3):
            loss = rig.model(torch.randn(5, 4)).square().mean()
            loss.backward()
            losses.append(float(loss.detach()) + (0 if engine is None else 0 * engine.current_step))
        rig.optimizer.step()
        rig.optimizer.zero_grad()
        if engine is not None:
            engine.commit(step)
    return losses


def test_reads_between_the_batches_of_one_step_change_nothing() -> None:
    torch.manual_seed(3)
    expected = accumulate(Rig(), None, range(1, 5))
    torch.manual_seed(3)
    rig = Rig()
    with rig.attach() as engine:
        assert accumulate(rig, engine, range(1, 3)) == expected[:6]
    rig = Rig()
    engine = rig.attach(resume="latest")
    draw()
    assert accumulate(rig, engine, range(engine.current_step + 1, 5)) == expected[6:]


def test_gradients_that_are_zero_or_older_than_the_resume_begin_no_loop(
    expected: tuple[float, ...],
) -> None:
    rig, engine = resumed()
    rig.model(torch.randn(5, 4)).square().mean().backward()  # a warm-up
    rig.optimizer.zero_grad(set_to_none=False)
    assert engine.current_step == 1
    assert draw() == expected
    rig.model(torch.randn(5, 4)).square().mean().backward()
    engine.resume("latest")
    draw()
    assert engine.current_step == 1
    assert draw() == expected


def test_repr_and_logging_are_no_reads(expected: tuple[float, ...]) -> None:
    _, engine = resumed()
    engine.start()
    first = draw()
    assert "main@1" in f"{engine!r} {engine.branch} {engine.repo_path}"
    engine.log(loss=1.0)
    assert draw() != first
    assert first == expected


def test_a_step_of_a_registered_optimizer_begins_the_loop_too(expected: tuple[float, ...]) -> None:
    rig, engine = resumed()
    second = torch.optim.SGD(rig.model.parameters(), lr=0.1)
    engine.register_state("second", second, required=False)
    engine.start()
    draw()
    second.step()
    before = rig.state()
    assert engine.current_step == 1
    assert_same(rig.state(), before)


def test_a_closure_that_reads_the_step_between_evaluations_is_not_turned_back() -> None:
    _, engine = trained(1)
    engine.close()
    rig = Rig()
    rig.optimizer = torch.optim.SGD(rig.model.parameters(), lr=0.1)
    rig.scheduler = torch.optim.lr_scheduler.ConstantLR(rig.optimizer)
    engine = rig.attach("other")
    engine.resume("main@1", components=("rng",))
    draws: list[float] = []

    def closure() -> torch.Tensor:
        draws.extend([float(torch.rand(())), engine.current_step, float(torch.rand(()))])
        return torch.zeros(())

    rig.optimizer.step(closure)
    assert draws[0] != draws[2]


def test_a_fresh_run_is_never_turned_back() -> None:
    engine = Rig().attach()
    before = torch.get_rng_state()
    torch.rand(3)
    after = torch.get_rng_state()
    engine.start()
    assert engine.current_step == 0
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(before, after)


def test_closing_takes_the_hooks_off() -> None:
    rig, engine = trained(1)
    assert rig.optimizer._optimizer_step_pre_hooks
    engine.close()
    assert not rig.optimizer._optimizer_step_pre_hooks
