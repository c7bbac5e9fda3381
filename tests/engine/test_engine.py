"""Committing, logging, registering, ending: the face of the engine on a real run."""

from __future__ import annotations

import gc
import math
import os
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradient import (
    ConfigError,
    EngineClosedError,
    GradientEngine,
    InvalidNameError,
    MisfitError,
    StepError,
    UnsupportedValueError,
    load,
)
from gradient.checkpoint.reader import read_value
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.repo.repository import Repository
from tests.engine.training_rig import Rig, assert_same, config, stored_bytes, trained


def commit_of(revision: Any) -> CommitRecord:
    return Repository.open("work/run").read_commit(Oid.parse(revision.id))


# -- What commit returns ------------------------------------------------------------------------


def test_commit_returns_text_that_knows_its_commit() -> None:
    rig = Rig()
    engine = rig.attach(config=config(view="full"))
    rig.step()
    revision = engine.commit(7, "first")
    assert isinstance(revision, str)
    assert revision == "main@7"
    assert {revision: 1}["main@7"] == 1
    assert f"{revision}" == "main@7"
    assert (revision.step, revision.branch, revision.type) == (7, "main", "anchor")
    assert len(revision.id) == 64
    assert revision.path == str(Path("work/run/ckpt_main_s7.pt").absolute())
    assert Path(revision.path).is_file()
    assert commit_of(revision).message == "first"
    assert Rig().attach("x").resume(revision) == 7
    assert Rig().attach("x", resume=revision.id[:12]).current_step == 7


def test_without_a_view_there_is_no_path() -> None:
    engine = Rig().attach()
    assert engine.commit(0).path is None
    assert not list(Path("work/run").glob("*.pt"))


def test_current_step_is_zero_then_the_last_commits_then_the_restored() -> None:
    rig, engine = trained()
    assert engine.current_step == 0
    rig.train(engine, 3, 5)
    assert engine.current_step == 5
    assert engine.resume("main@3") == 3
    assert engine.current_step == 3


@pytest.mark.parametrize(
    "step", [-1, 1.0, 1.5, True, False, "1", None, math.nan, 1 << 53, np.float64(2), [1]]
)
def test_a_bad_step_is_refused_and_loses_nothing(step: Any) -> None:
    rig, engine = trained(1)
    with pytest.raises(StepError, match="whole number"):
        engine.commit(step)
    with pytest.raises(StepError, match="whole number"):
        engine.maybe_commit(step)
    rig.train(engine, 2)
    assert engine.current_step == 2


@pytest.mark.parametrize("step", [np.int64(4), np.uint8(4), torch.tensor(4)])
def test_a_whole_number_of_another_library_is_a_step(step: Any) -> None:
    revision = Rig().attach().commit(step)
    assert (revision, type(revision.step)) == ("main@4", int)


@pytest.mark.parametrize("step", [torch.tensor(True), np.bool_(True), torch.tensor(4.0)])
def test_a_bool_or_float_of_another_library_is_no_step(step: Any) -> None:
    with pytest.raises(StepError):
        Rig().attach().commit(step)


def test_a_lower_step_is_refused_the_same_one_is_a_new_commit() -> None:
    rig, engine = trained(5)
    with pytest.raises(StepError, match=r"below 5.*resume or fork"):
        engine.commit(4)
    rig.step()
    engine.commit(5, "again")
    assert load("main@5", workspace="work", repo="run")["meta"]["message"] == "again"


@pytest.mark.parametrize("message", [None, 5, b"x", "\ud800"])
def test_a_message_that_is_no_text_is_refused_before_anything_is_written(message: Any) -> None:
    rig, engine = trained(1)
    before = stored_bytes()
    with pytest.raises(UnsupportedValueError, match="message"):
        engine.commit(2, message)
    assert stored_bytes() == before
    rig.train(engine, 2)


# -- Metrics and hyperparameters ----------------------------------------------------------------


def test_logged_metrics_join_the_next_commit_and_only_that() -> None:
    engine = Rig().attach()
    engine.log(loss=torch.tensor(2.5), **{"val/loss": 2})
    engine.log({"loss": np.float32(1.5), "acc": 1}, self=3, acc=0.5)
    first = engine.commit(1, metrics={"lr": 0.1, "val/loss": 4})
    assert commit_of(first).metrics == {
        "loss": 1.5,
        "val/loss": 4,
        "acc": 0.5,
        "self": 3,
        "lr": 0.1,
    }
    assert commit_of(engine.commit(2)).metrics == {}


def test_metrics_that_are_not_finite_are_kept() -> None:
    engine = Rig().attach()
    metrics = commit_of(engine.commit(1, metrics={"a": math.nan, "b": -math.inf})).metrics
    assert math.isnan(metrics["a"])
    assert metrics["b"] == -math.inf


def test_maybe_commit_logs_even_where_it_does_not_commit() -> None:
    engine = Rig().attach()
    engine.autocommit(every=2)
    assert engine.maybe_commit(1, metrics={"loss": 1}) is None
    revision = engine.maybe_commit(2, metrics={"acc": 2})
    assert commit_of(revision).metrics == {"loss": 1, "acc": 2}


def test_maybe_commit_does_not_repeat_a_step_just_committed() -> None:
    engine = Rig().attach()
    engine.autocommit(every=2)
    assert engine.commit(2) == "main@2"
    assert engine.maybe_commit(2) is None
    assert engine.maybe_commit(4) == "main@4"


def test_a_loop_that_forgets_maybe_commit_is_warned_once() -> None:
    engine = Rig().attach()
    engine.autocommit(every=2)
    steps = engine.steps(9)
    assert [next(steps), next(steps)] == [1, 2]
    with pytest.warns(UserWarning, match="every 2 steps, but the loop never calls maybe_commit"):
        next(steps)
    assert list(steps) == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("way", ["maybe_commit", "commit"])
def test_a_loop_that_commits_is_not_warned(way: str) -> None:
    engine = Rig().attach()
    engine.autocommit(every=2)
    for step in engine.steps(6):
        if step == 2:
            getattr(engine, way)(step)


def test_metrics_of_maybe_commit_are_checked_as_those_of_commit() -> None:
    engine = Rig().attach()
    for wrong in ([1], {1: 2.0}):
        with pytest.raises(UnsupportedValueError):
            engine.maybe_commit(1, metrics=wrong)  # type: ignore[arg-type]


def test_bad_metrics_are_refused_by_name_and_the_others_stay() -> None:
    engine = Rig().attach()
    engine.log(loss=1)
    with pytest.raises(UnsupportedValueError, match="'curve'"):
        engine.log(acc=1, curve=[1, 2])
    with pytest.raises(UnsupportedValueError, match="metrics"):
        engine.commit(1, metrics=[1])  # type: ignore[arg-type]
    assert commit_of(engine.commit(1)).metrics == {"loss": 1}


def test_hyperparameters_are_recorded_in_each_commit_as_they_were() -> None:
    hparams = {"lr": 0.1, "betas": (0.9, 0.95), "name": "gpt", "tied": True, "seed": None}
    rig = Rig()
    engine = rig.attach(hparams=hparams)
    first = engine.commit(1)
    hparams["lr"] = 5
    second = engine.commit(2)
    assert commit_of(first).hparams == commit_of(second).hparams
    oid = commit_of(second).hparams
    assert oid is not None
    assert read_value(Repository.open("work/run").store, oid) == hparams | {"lr": 0.1}


# -- Registered state ---------------------------------------------------------------------------


class Environment:
    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def test_both_forms_of_registering_before_and_after_a_resume() -> None:
    rig, engine = trained()
    environment, box = Environment(), [1]
    engine.register_state("env", environment)
    engine.register_state("box", lambda: list(box), lambda saved: box.__setitem__(0, saved[0]))
    environment.value, box[0] = 7, 8
    engine.commit(1)
    environment.value, box[0] = 0, 0
    engine.resume("main@1")
    assert (environment.value, box) == (7, [8])

    late, other = Environment(), [0]
    fresh = Rig().attach(resume="latest")
    fresh.register_state("env", late)
    fresh.register_state("box", lambda: other, lambda saved: other.__setitem__(0, saved[0]))
    assert (late.value, other) == (7, [8])
    del rig


def test_a_registered_scaler_and_second_optimizer_come_back() -> None:
    def parts() -> tuple[Rig, torch.amp.GradScaler, torch.optim.Adam]:
        rig = Rig()
        second = torch.optim.Adam(rig.model.parameters(), lr=0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        scaler.scale(torch.ones(()))
        return rig, scaler, second

    rig, scaler, second = parts()
    engine = rig.attach()
    engine.register_state("scaler", scaler)
    engine.register_state("second", second)
    rig.step()
    second.step()
    scaler.update(4.0)
    engine.commit(1)
    other, other_scaler, other_second = parts()
    engine = other.attach(resume="latest")
    engine.register_state("scaler", other_scaler)
    engine.register_state("second", other_second)
    assert_same(other_scaler.state_dict(), scaler.state_dict())
    assert_same(other_second.state_dict(), second.state_dict())


def test_a_required_state_that_the_commit_lacks_is_a_misfit() -> None:
    trained(1)
    engine = Rig().attach(resume="latest")
    with pytest.raises(MisfitError, match="required=False") as caught:
        engine.register_state("ema", Environment())
    assert caught.value.missing == ("ema",)
    fresh = Environment()
    engine.register_state("ema", fresh, required=False)
    engine.commit(2)
    engine = Rig().attach("other")
    engine.register_state("ema", Environment())
    with pytest.raises(MisfitError, match="ema"):
        engine.resume("main@1")


def test_a_name_is_registered_once_and_may_not_be_reserved() -> None:
    engine = Rig().attach()
    engine.register_state("ema", Environment())
    for name in ("ema", "model", "rng", "step", "meta", "", "a\nb"):
        with pytest.raises(InvalidNameError):
            engine.register_state(name, Environment())
    with pytest.raises(ConfigError, match="state_dict"):
        engine.register_state("other", object())


def test_a_value_without_encoding_names_its_path_and_both_remedies() -> None:
    rig, engine = trained(1)
    engine.register_state("env", lambda: {"deep": [1, object()]}, lambda saved: None)
    before = stored_bytes()
    with pytest.raises(UnsupportedValueError) as caught:
        engine.commit(2)
    assert caught.value.path == "env.deep[1]"
    assert "plain data" in str(caught.value)
    assert "pickle=True" in str(caught.value)
    assert stored_bytes() == before
    assert Repository.open("work/run").resolve("latest").commit.step == 1
    del rig


def test_pickle_is_opted_in_to_on_both_sides() -> None:
    rig, engine = trained()
    held = [{1, 2}, complex(1, 2), Path("x")]
    engine.register_state("any", lambda: held, held.extend, pickle=True)
    engine.commit(1)
    with pytest.raises(MisfitError, match="pickle=True"):
        Rig().attach(resume="latest").register_state("any", list, lambda saved: None)
    back: list[Any] = []
    Rig().attach(resume="latest").register_state("any", list, back.extend, pickle=True)
    assert back == held
    del rig


def test_state_that_nobody_claims_is_carried_on_with_one_warning() -> None:
    rig, engine = trained()
    engine.register_state("env", lambda: {"big": torch.arange(999.0)}, lambda saved: None)
    rig.train(engine, 1)
    before = load("main@1", workspace="work", repo="run")["env"]

    rig = Rig()
    engine = rig.attach(resume="latest")
    with pytest.warns(UserWarning, match=r"env of main@1.*carried forward"):
        rig.train(engine, 2)
    rig.train(engine, 3)
    engine.resume("main@2")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*set aside")
        rig.train(engine, 4)
        engine.fork(from_ref="main@2", new_branch="side")
        rig.train(engine, 5)
    for revision in ("main@2", "main@4", "main.old1@3", "side@5"):
        assert_same(load(revision, workspace="work", repo="run")["env"], before)


def test_carried_state_can_be_claimed_after_commits() -> None:
    rig, engine = trained()
    environment = Environment()
    environment.value = 9
    engine.register_state("env", environment)
    rig.train(engine, 1)
    rig = Rig()
    engine = rig.attach(resume="latest")
    with pytest.warns(UserWarning, match="carried forward"):
        rig.train(engine, 2)
    late = Environment()
    engine.register_state("env", late)
    assert late.value == 9


# -- Attaching again, and ending ----------------------------------------------------------------


def test_attaching_a_model_again_closes_the_first_and_goes_on() -> None:
    rig, first = trained(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = rig.attach()
    assert second.current_step == 2
    with pytest.raises(EngineClosedError):
        first.commit(3)
    rig.train(second, 3)
    assert Repository.open("work/run").branches() == ["main"]
    assert [c.step for _, c in Repository.open("work/run").line("main")] == [3, 2, 1]


def test_an_engine_that_was_dropped_is_gone_on_with_as_well() -> None:
    rig, engine = trained(1)
    del engine
    gc.collect()
    engine = rig.attach()
    assert engine.current_step == 1
    rig.train(engine, 2)
    assert Repository.open("work/run").branches() == ["main"]


def test_attaching_again_goes_on_on_the_line_that_a_fork_or_a_diversion_led_to() -> None:
    rig, engine = trained(1)
    engine.fork(from_ref="main@1", new_branch="exp")
    engine = rig.attach()
    assert (engine.branch, engine.current_step) == ("exp", 1)
    rig.train(engine, 2)
    assert [c.step for _, c in Repository.open("work/run").line("exp")] == [2, 1, 1]


def test_registering_after_attaching_again_does_not_turn_back() -> None:
    rig, engine = trained()
    environment = Environment()
    engine.register_state("env", environment)
    rig.train(engine, 1)
    engine.resume("main@1")
    environment.value = 5
    rig.train(engine, 2)
    engine = rig.attach()
    engine.register_state("env", environment)
    assert environment.value == 5
    rig.train(engine, 3)
    engine.resume("main@1")
    assert environment.value == 0


def test_after_close_everything_raises_and_closing_again_is_harmless() -> None:
    rig, engine = trained(1)
    with engine as same_engine:
        assert same_engine is engine
    engine.close()
    calls = {
        "commit": lambda: engine.commit(2),
        "maybe_commit": lambda: engine.maybe_commit(2),
        "resume": lambda: engine.resume("main"),
        "resume_latest": lambda: engine.resume_latest(missing_ok=True),
        "fork": lambda: engine.fork(from_ref="main", new_branch="x"),
        "log": lambda: engine.log(loss=1),
        "register_state": lambda: engine.register_state("x", Environment()),
        "autocommit": lambda: engine.autocommit(every=1),
        "start": engine.start,
        "steps": lambda: next(engine.steps(5)),
        "epochs": lambda: engine.epochs(0, 1),
        "loader": lambda: engine.loader(torch.utils.data.DataLoader([1, 2])),  # type: ignore[arg-type]
    }
    for call in calls.values():
        with pytest.raises(EngineClosedError):
            call()
    assert "closed" in repr(engine)
    assert engine.branch == "main"
    del rig


def test_leaving_the_context_by_an_error_closes_and_hides_nothing() -> None:
    with pytest.raises(ZeroDivisionError), Rig().attach() as engine:
        raise ZeroDivisionError
    with pytest.raises(EngineClosedError):
        engine.commit(1)


def in_forked_child(function: Any) -> str:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads
        pid = os.fork()
    if pid == 0:
        try:
            text = str(function())
        except BaseException as error:  # noqa: BLE001 - the parent judges
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as answers:
        return answers.read().decode()


def test_a_forked_child_is_refused_and_closes_nothing_of_its_parents() -> None:
    rig, engine = trained(1)
    assert in_forked_child(lambda: engine.commit(2)).startswith("EngineClosedError: this engine be")
    assert in_forked_child(engine.close) == "None"
    rig.train(engine, 2)
    assert engine.current_step == 2


def test_a_child_that_attaches_has_a_line_of_its_own() -> None:
    rig, engine = trained(1)

    def child() -> str:
        warnings.simplefilter("ignore")
        mine = rig.attach(resume="latest")
        rig.step()
        return mine.commit(2)

    assert in_forked_child(child) == "main@2"
    with pytest.warns(UserWarning, match="another writer"):
        rig.train(engine, 2)
    assert engine.branch == "main.run2"


def test_repr_says_where_the_run_stands_and_draws_nothing() -> None:
    rig, engine = trained(4)
    before = rig.state()
    assert repr(engine) == "<GradientEngine run main@4>"
    assert_same(rig.state(), before)


def test_the_properties_are_text() -> None:
    engine = Rig().attach()
    root = Path("work").absolute()
    assert (engine.workspace_path, engine.repo_path) == (str(root), str(root / "run"))
    assert (engine.repo_name, engine.branch) == ("run", "main")


def test_a_model_is_not_kept_alive() -> None:
    rig, engine = trained(1)
    model = rig.model
    gone = weakref.ref(model)
    del rig, engine, model
    gc.collect()
    assert gone() is None


def test_a_warning_that_is_an_error_comes_after_the_commit_is_noted() -> None:
    rig, engine = trained(1, 2, 3)
    engine.resume("main@1")
    with pytest.raises(UserWarning, match="set aside"):
        engine.commit(5)
    assert engine.current_step == 5
    rig.train(engine, 6)
    assert [c.step for _, c in Repository.open("work/run").line("main")] == [6, 5, 1]
    assert isinstance(engine, GradientEngine)
