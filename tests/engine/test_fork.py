"""Forks: every option does what it says, is recorded, and costs next to nothing."""

from __future__ import annotations

import errno
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

import gradient
from gradient import BranchExistsError, ConfigError, GradientIOError, InvalidNameError, MisfitError
from gradient.checkpoint.reader import read_state, read_value
from gradient.repo.repository import Repository
from gradient.storage import fs
from tests.engine.training_rig import Rig, assert_same, network, stored_bytes, trained
from tests.state.value_roundtrip import same
from tests.storage.faults import observed


def stored(revision: str) -> dict[str, Any]:
    """Read what a commit holds."""
    repo = Repository.open("work/run")
    return read_state(repo.store, repo.resolve(revision).commit.tree)


def recorded(revision: str) -> Any:
    """Read what a commit says about its fork."""
    repo = Repository.open("work/run")
    oid = repo.resolve(revision).commit.fork
    return None if oid is None else read_value(repo.store, oid)


def test_a_plain_fork_is_the_same_state_on_a_new_branch() -> None:
    rig, engine = trained(1, 2)
    two = rig.state()
    rig.train(engine, 3)
    revision = engine.fork("main@2", "exp", message="why not")
    assert (revision, revision.branch, revision.step) == ("exp@2", "exp", 2)
    assert (engine.branch, engine.current_step) == ("exp", 2)
    assert_same(rig.state(), two)
    repo = Repository.open("work/run")
    fork, source = repo.resolve("exp").commit, repo.resolve("main@2")
    assert fork.tree == source.commit.tree
    assert fork.parents == (source.oid,)
    assert fork.message == "why not"
    assert recorded("exp") == {"from": str(source.oid), "revision": "main@2", "message": "why not"}
    rig.train(engine, 3)
    repo = Repository.open("work/run")
    assert [c.step for _, c in repo.line("exp")] == [3, 2, 2, 1]
    assert [c.step for _, c in repo.line("main")] == [3, 2, 1]
    assert repo.resolve("exp@3").commit.tree == repo.resolve("main@3").commit.tree


def test_a_fork_shares_every_chunk_and_writes_little() -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(200, 200) for _ in range(6)))
    rig = Rig(model)
    engine = rig.attach()
    model(torch.randn(2, 200)).sum().backward()
    rig.optimizer.step()
    engine.commit(1)
    before = stored_bytes()
    assert before > 1 << 20
    engine.fork(
        from_ref="main@1", new_branch="exp", set={"lr": 1e-2}, scale_lr=2.0, reset_rng_seed=5
    )
    assert stored_bytes() - before <= 16 << 10


def tied(*names: str) -> Rig:
    model = torch.nn.Module()
    weight = torch.nn.Parameter(torch.ones(20, 20))
    for name in names:
        model.register_parameter(name, weight)
    return Rig(model, torch.optim.Adam(model.parameters()))


@pytest.mark.parametrize("options", [{"set": {"lr": 0.5}}, {"scale_lr": 0.5}])
def test_a_fork_keeps_state_whose_parameter_has_another_name_here(options: dict[str, Any]) -> None:
    rig = tied("wte", "head")
    rig.model.wte.grad = torch.randn(20, 20)
    rig.optimizer.step()
    rig.attach().commit(1)
    other = tied("head", "wte")
    other.attach("other").fork("main@1", "exp", **options)
    (moments,) = other.optimizer.state.values()
    assert same(moments, rig.optimizer.state[rig.model.wte])
    again = tied("head", "wte")
    again.attach("again").resume("exp@1")
    assert same(again.state()["optimizer"], other.state()["optimizer"])
    (loaded,) = gradient.load("exp@1", workspace="work", repo="run")["optimizer"]["state"].values()
    assert same(loaded, moments)


@pytest.mark.parametrize("name", ["main", "exp"])
def test_an_existing_branch_is_an_error_that_names_resume(name: str) -> None:
    rig, engine = trained(1)
    trained(1, branch="exp")
    before = rig.state()
    with pytest.raises(BranchExistsError, match="resume"):
        engine.fork(from_ref="main@1", new_branch=name)
    assert engine.branch == "main"
    assert_same(rig.state(), before)


@pytest.mark.parametrize("name", ["../x", "Main", "a b", "", "x@1", "-x"])
def test_a_bad_branch_name_is_refused(name: str) -> None:
    _, engine = trained(1)
    with pytest.raises(InvalidNameError):
        engine.fork(from_ref="main@1", new_branch=name)


# -- Learning rates -----------------------------------------------------------------------------

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda o: MultiStepLR(o, [2, 6]),
    "ExponentialLR": lambda o: ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: CosineAnnealingLR(o, 20),
    "LambdaLR": lambda o: LambdaLR(o, lambda epoch: 0.95**epoch),
    "LinearLR": lambda o: LinearLR(o, total_iters=10),
    "OneCycleLR": lambda o: OneCycleLR(o, max_lr=0.05, total_steps=30),
    "CyclicLR": lambda o: CyclicLR(o, 0.001, 0.01, step_size_up=4, cycle_momentum=False),
    "SequentialLR": lambda o: SequentialLR(o, [LinearLR(o), CosineAnnealingLR(o, 20)], [2]),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
}


def scheduled(make: Callable[[Any], Any]) -> Rig:
    rig = Rig()
    rig.optimizer = torch.optim.AdamW(rig.model.parameters(), lr=0.01)
    rig.scheduler = make(rig.optimizer)
    return rig


def rates(rig: Rig, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        rig.step()
        found.append(float(rig.optimizer.param_groups[0]["lr"]))
    return found


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scaled_rate_stays_scaled_under_the_scheduler(name: str) -> None:
    rig = scheduled(SCHEDULERS[name])
    engine = rig.attach()
    rig.train(engine, 1, 2, 3)
    expected = rates(rig, 5)
    engine.fork(from_ref="main@3", new_branch="hot", scale_lr=10)
    assert rates(rig, 5) == pytest.approx([10 * rate for rate in expected])
    assert recorded("hot")["scale_lr"] == 10

    other = scheduled(SCHEDULERS[name])
    other.attach(resume="hot")
    assert rates(other, 5) == pytest.approx([10 * rate for rate in expected])


@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR", "CosineAnnealingLR", "LambdaLR"])
def test_a_set_rate_is_the_new_base_of_the_schedule(name: str) -> None:
    rig = scheduled(SCHEDULERS[name])
    engine = rig.attach()
    rig.train(engine, 1)
    engine.fork(from_ref="main@1", new_branch="hot", set={"lr": 1.0, "weight_decay": 0.3})
    group = rig.optimizer.param_groups[0]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (1.0, 1.0, 0.3)
    assert rig.scheduler.base_lrs == [1.0]
    later = rates(rig, 4)
    assert all(0.1 < rate <= 1.0 for rate in later)
    assert recorded("hot")["set"] == {"lr": 1.0, "weight_decay": 0.3}
    saved = stored("hot")
    assert saved["optimizer"]["param_groups"][0]["lr"] == 1.0
    assert saved["scheduler"]["base_lrs"] == [1.0]


def test_a_plateau_scheduler_goes_on_from_a_scaled_rate() -> None:
    rig = scheduled(lambda o: ReduceLROnPlateau(o, patience=0, factor=0.5))
    engine = rig.attach()
    rig.scheduler.step(1.0)
    engine.commit(1)
    engine.fork(from_ref="main@1", new_branch="hot", scale_lr=10)
    rig.scheduler.step(2.0)
    assert rig.optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"set": {"rate": 1}},
        {"set": {"lr": "fast"}},
        {"set": {"lr": float("nan")}},
        {"set": {"lr": -1.0}},
        {"set": {"betas": (0.9,)}},
        {"set": ["lr", 1]},
        {"scale_lr": 0},
        {"scale_lr": -1},
        {"scale_lr": float("inf")},
        {"scale_lr": True},
        {"reset_rng_seed": -1},
        {"reset_rng_seed": 1.5},
        {"reset_rng_seed": 1 << 64},
    ],
)
def test_bad_options_are_refused_and_nothing_has_changed(options: dict[str, Any]) -> None:
    rig, engine = trained(1, 2)
    before = rig.state()
    with pytest.raises(ConfigError):
        engine.fork(from_ref="main@1", new_branch="x", **options)
    assert_same(rig.state(), before)
    assert Repository.open("work/run").branches() == ["main"]


# -- Resets -------------------------------------------------------------------------------------


def test_a_reset_optimizer_starts_empty_with_the_sources_options() -> None:
    rig, engine = trained(1, 2)
    engine.fork(from_ref="main@2", new_branch="x", reset_optimizer=True)
    assert dict(rig.optimizer.state) == {}
    assert stored("x")["optimizer"]["state"] == {}
    assert rig.optimizer.param_groups[0]["lr"] == 0.005, "the schedule goes on"
    rig.train(engine, 3)
    assert recorded("x@2")["reset_optimizer"] is True


def test_a_reset_optimizer_may_be_of_another_class_than_the_sources() -> None:
    trained(1, 2)
    model = network()
    rig = Rig(model, torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9))
    engine = rig.attach("mine")
    with pytest.raises(MisfitError):
        engine.fork(from_ref="main@2", new_branch="x")
    engine.fork(from_ref="main@2", new_branch="x", reset_optimizer=True)
    assert same(rig.state()["model"], stored("main@2")["model"])
    assert rig.optimizer.param_groups[0]["momentum"] == 0.9
    rig.train(engine, 3)


def test_a_reset_scheduler_is_a_fresh_start() -> None:
    fresh = Rig()
    expected = rates(fresh, 4)
    rig, engine = trained(1, 2, 3)
    engine.fork(from_ref="main@3", new_branch="x", reset_scheduler=True)
    assert rig.optimizer.param_groups[0]["lr"] == 0.01
    assert rates(rig, 4) == expected
    assert stored("x")["scheduler"]["last_epoch"] == 0
    assert stored("x")["optimizer"]["param_groups"][0]["lr"] == 0.01


def test_a_reset_scheduler_may_be_of_another_class_than_the_sources() -> None:
    trained(1, 2)
    rig = scheduled(lambda o: CosineAnnealingLR(o, 10))
    expected = rates(scheduled(lambda o: CosineAnnealingLR(o, 10)), 3)
    engine = rig.attach("mine")
    engine.fork(from_ref="main@2", new_branch="x", reset_scheduler=True)
    assert rates(rig, 3) == expected


def test_what_a_fork_decides_is_not_told_as_a_difference(caplog: pytest.LogCaptureFixture) -> None:
    trained(1, 2)[1].close()
    rig = Rig(optimizer=None)
    rig.optimizer.param_groups[0].update(lr=0.5, initial_lr=0.5, weight_decay=0.3, eps=0.1)
    rig.scheduler = StepLR(rig.optimizer, 2, gamma=0.5)
    engine = rig.attach("other")
    engine.fork(from_ref="main@2", new_branch="one", set={"lr": 0.1, "weight_decay": 0.2})
    engine.fork(from_ref="main@2", new_branch="two", reset_scheduler=True)
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told.count("optimizer.param_groups[0].lr") == 0
    assert "optimizer.param_groups[0].eps" in told


def test_resets_and_settings_together() -> None:
    rig, engine = trained(1, 2, 3)
    engine.fork(
        from_ref="main@3",
        new_branch="x",
        reset_optimizer=True,
        reset_scheduler=True,
        set={"lr": 0.2},
        scale_lr=2,
        reset_rng_seed=0,
    )
    assert rig.optimizer.param_groups[0]["lr"] == pytest.approx(0.4)
    assert rates(rig, 2) == pytest.approx([0.4, 0.2])
    assert recorded("x")["reset_rng_seed"] == 0


def test_a_reset_seed_reseeds_every_generator() -> None:
    rig, engine = trained(1)
    engine.fork(from_ref="main@1", new_branch="x", reset_rng_seed=7)
    first = random.random(), np.random.rand(), torch.rand(2).tolist()
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    assert (random.random(), np.random.rand(), torch.rand(2).tolist()) == first
    assert engine.current_step == 1
    assert (random.random(), np.random.rand(), torch.rand(2).tolist()) == first, "held at the fork"
    other = Rig().attach(resume="x")
    other.start()
    assert (random.random(), np.random.rand(), torch.rand(2).tolist()) == first
    del rig


def test_a_reset_seed_reaches_a_loader_in_mid_epoch() -> None:
    engine = Rig().attach()
    data = torch.utils.data.DataLoader(list(range(20)), batch_size=2, shuffle=True)  # type: ignore[arg-type]
    loader = engine.loader(data)
    batches = iter(loader)
    consumed = [next(batches).tolist() for _ in range(3)]
    engine.commit(3)
    rest = [batch.tolist() for batch in batches]
    engine.fork(from_ref="main@3", new_branch="x", reset_rng_seed=7)
    again = [batch.tolist() for batch in loader]
    drawn = torch.rand(3).tolist()
    assert again == rest, "the epoch's order is the source's; what is drawn from now on is new"

    torch.manual_seed(99)
    other = Rig().attach(resume="x")
    data = torch.utils.data.DataLoader(list(range(20)), batch_size=2, shuffle=True)  # type: ignore[arg-type]
    assert [batch.tolist() for batch in other.loader(data)] == rest
    assert torch.rand(3).tolist() == drawn
    assert len(consumed) + len(rest) == 10


def test_a_fork_carries_what_nobody_claims() -> None:
    rig, engine = trained()
    engine.register_state("env", lambda: {"a": [1, 2]}, lambda saved: None)
    rig.train(engine, 1)
    other = Rig()
    engine = other.attach("mine")
    engine.fork(from_ref="main@1", new_branch="x", scale_lr=2)
    assert stored("x")["env"] == {"a": [1, 2]}
    with pytest.warns(UserWarning, match="env"):
        other.train(engine, 2)
    assert stored("x@2")["env"] == {"a": [1, 2]}


def test_a_fork_that_can_not_be_recorded_changes_nothing() -> None:
    rig, engine = trained(1, 2, 3)
    rig.step()
    before = rig.state()

    def full(call: fs.Call) -> None:
        if call.operation in ("write", "create"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with observed(full), pytest.raises(GradientIOError, match="No space"):
        engine.fork(
            from_ref="main@1", new_branch="x", scale_lr=10, reset_optimizer=True, reset_rng_seed=1
        )
    assert_same(rig.state(), before)
    assert (engine.branch, engine.current_step) == ("main", 3)
    assert Repository.open("work/run").branches() == ["main"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rig.train(engine, 4)
    assert engine.fork(from_ref="main@1", new_branch="x") == "x@1"
