"""Resuming: which revision, what fits, and that nothing has changed where it does not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from gradient import (
    ConfigError,
    GradientEngine,
    MalformedRevisionError,
    MisfitError,
    UnknownRevisionError,
    load,
)
from gradient.repo.repository import Repository
from tests.engine.training_rig import Rig, assert_same, config, network, trained
from tests.state.value_roundtrip import same


def test_every_kind_of_revision_leads_to_the_same_bits() -> None:
    rig, engine = trained(1, 2)
    two = rig.state()
    revision = engine.commit(2)
    rig.train(engine, 3)
    repo = Repository.open("work/run")
    tip = repo.resolve(revision).oid
    repo.refs.append("best", tip, after=None, reason="tag", space="tags")
    for ref in (revision, "main@2", "main~1", "main~", "best", revision.id[:8], revision.id):
        other = Rig()
        assert other.attach("elsewhere").resume(ref) == 2
        assert_same(other.state(), two)


@pytest.mark.parametrize(
    ("ref", "branch"), [("exp@1", "exp"), ("exp", "exp"), ("exp~1", "exp"), ("id", "main")]
)
def test_a_branch_moves_the_engine_a_tag_or_an_id_does_not(ref: str, branch: str) -> None:
    _, exp = trained(1, 2, branch="exp")
    ids = {"id": exp._session.position.last.id if exp._session.position.last else ""}
    engine = Rig().attach("main")
    engine.resume(ids.get(ref, ref)[:64])
    assert engine.branch == branch
    repo = Repository.open("work/run")
    repo.refs.append("tag", repo.resolve("exp@1").oid, after=None, reason="tag", space="tags")
    other = Rig().attach("main")
    other.resume("tag")
    assert other.branch == "main"


def test_the_branch_of_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    trained(1, 2, branch="exp")
    monkeypatch.setenv("GRADIENT_BRANCH", "mine")
    engine = Rig().attach(resume="exp@2")
    assert (engine.branch, engine.current_step) == ("mine", 2)
    assert engine.commit(3) == "mine@3"


def test_latest_is_the_active_branchs() -> None:
    trained(5, branch="exp")
    _, engine = trained(2)
    assert engine.resume("latest") == 2
    assert engine.resume_latest() == 2
    with pytest.raises(UnknownRevisionError):
        Rig().attach("empty").resume_latest()
    assert Rig().attach("empty").resume_latest(missing_ok=True) == 0


UNKNOWN = {"main@7": "main@3", "mian@1": "main", "nothing": "main", "abcd1234": "main"}


@pytest.mark.parametrize("ref", UNKNOWN)
def test_an_unknown_revision_names_the_nearest_and_changes_nothing(ref: str) -> None:
    rig, engine = trained(1, 3)
    before = rig.state()
    with pytest.raises(UnknownRevisionError) as caught:
        engine.resume(ref)
    assert UNKNOWN[ref] in str(caught.value)
    assert (engine.branch, engine.current_step) == ("main", 3)
    assert_same(rig.state(), before)


@pytest.mark.parametrize("ref", ["", "@x", "main@", "main@x", "main@-1", "a b", "main~x", "../x"])
def test_a_malformed_revision_is_refused(ref: str) -> None:
    _, engine = trained(1)
    with pytest.raises(MalformedRevisionError):
        engine.resume(ref)


@pytest.mark.parametrize("ref", [5, None, b"main", ["main"]])
def test_a_revision_that_is_no_text_is_malformed(ref: Any) -> None:
    _, engine = trained(1)
    with pytest.raises(MalformedRevisionError, match="text"):
        engine.resume(ref)


# -- What does not fit --------------------------------------------------------------------------


def other_width() -> Rig:
    return Rig(network(7))


def other_dtype() -> Rig:
    return Rig(network().double())


def more_layers() -> Rig:
    return Rig(torch.nn.Sequential(*network(), torch.nn.Linear(2, 2)))


def fewer_layers() -> Rig:
    return Rig(network()[:3])  # type: ignore[arg-type]


def other_optimizer() -> Rig:
    model = network()
    return Rig(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def other_scheduler() -> Rig:
    rig = Rig()
    rig.scheduler = ExponentialLR(rig.optimizer, 0.9)
    return rig


MISFITS: dict[str, tuple[Any, str]] = {
    "shape": (other_width, r"different: 0\.weight: saved \(6, 4\) float32, here \(7, 4\) float32"),
    "dtype": (other_dtype, r"different: 0\.weight: .*float32, here .*float64"),
    "missing": (more_layers, r"missing in the checkpoint: 4\.weight"),
    "unexpected": (fewer_layers, r"unexpected in the checkpoint: 3\.weight"),
    "optimizer": (other_optimizer, r"different: optimizer: saved .*AdamW, here .*SGD"),
    "scheduler": (other_scheduler, r"unexpected in the checkpoint: scheduler\.step_size"),
}


@pytest.mark.parametrize(("make", "text"), MISFITS.values(), ids=MISFITS)
def test_a_misfit_lists_everything_and_changes_nothing(make: Any, text: str) -> None:
    trained(1)
    rig = make()
    engine = rig.attach("other")
    if make not in (other_dtype, fewer_layers):
        rig.step()
    before = rig.state()
    with pytest.raises(MisfitError, match=text) as caught:
        engine.resume("main@1")
    error = caught.value
    assert error.missing or error.unexpected or error.mismatched
    assert "strict=False" in str(error)
    assert_same(rig.state(), before)
    assert (engine.branch, engine.current_step) == ("other", 0)


def test_attach_that_can_not_resume_leaves_no_engine_behind() -> None:
    _, engine = trained(1)
    engine.close()
    rig = other_width()
    with pytest.raises(MisfitError):
        rig.attach(resume="latest")
    assert not rig.optimizer._optimizer_step_pre_hooks
    with pytest.warns(UserWarning, match="has history"):
        rig.attach("main")


def test_a_scheduler_that_only_one_side_has_is_a_misfit() -> None:
    trained(1)
    rig = Rig()
    engine = GradientEngine.attach(rig.model, rig.optimizer, config=config(branch="other"))
    with pytest.raises(MisfitError, match="scheduler") as caught:
        engine.resume("main@1")
    assert caught.value.unexpected == ("scheduler",)
    engine.commit(1)
    with_one = Rig().attach("third")
    with pytest.raises(MisfitError) as caught:
        with_one.resume("other@1")
    assert caught.value.missing == ("scheduler",)


def test_not_strict_loads_what_matches_and_says_what_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, _ = trained(1)
    rig = Rig(network(6))
    rig.model[3] = torch.nn.Linear(6, 5)  # type: ignore[index]
    rig = Rig(rig.model)
    engine = rig.attach("other")
    rig.step()
    kept = rig.model[3].weight.clone()  # type: ignore[index]
    with caplog.at_level(logging.WARNING, "gradient"):
        assert engine.resume("main@1", strict=False) == 1
    assert torch.equal(rig.model[0].weight, source.model[0].weight)  # type: ignore[index]
    assert torch.equal(rig.model[3].weight, kept)  # type: ignore[index]
    state = rig.optimizer.state
    assert rig.model[3].weight not in state  # type: ignore[index]
    assert float(state[rig.model[0].weight]["step"]) == 1  # type: ignore[index]
    assert "3.weight" in caplog.text
    assert "optimizer state reset" in caplog.text
    engine.commit(2)


# -- Parts --------------------------------------------------------------------------------------


def test_components_are_a_warm_start() -> None:
    source, _ = trained(1, 2)
    rig = Rig()
    engine = rig.attach("other")
    rig.train(engine, 7)
    before = rig.state()
    assert engine.resume("main@2", components=("model",)) == 2
    after = rig.state()
    assert same(after["model"], source.state()["model"])
    for name in ("optimizer", "scheduler", "rng"):
        assert same(after[name], before[name]), name
    assert (engine.branch, engine.current_step) == ("other", 7)
    assert engine.commit(8) == "other@8"
    repo = Repository.open("work/run")
    assert [c.step for _, c in repo.line("other")] == [8, 7]
    assert repo.resolve("other@8").commit.fork is not None
    engine.commit(9)
    assert repo.resolve("other@9").commit.fork is None


@pytest.mark.parametrize("components", [("modle",), ("model", "ema"), "model", (), ["scaler"]])
def test_unknown_components_are_refused_with_those_there_are(components: Any) -> None:
    rig, engine = trained(1)
    before = rig.state()
    with pytest.raises(ConfigError, match="model, optimizer, rng, scheduler"):
        engine.resume("main@1", components=components)
    assert_same(rig.state(), before)


def test_a_setter_that_raises_midway_leaves_everything_as_it_was() -> None:
    rig, engine = trained()
    box = {"a": 1, "b": 1}
    failing = False

    def set_b(saved: int) -> None:
        if failing:
            raise ZeroDivisionError
        box["b"] = saved

    engine.register_state("a", lambda: box["a"], lambda saved: box.update(a=saved))
    engine.register_state("b", lambda: box["b"], set_b)
    rig.train(engine, 1)
    box.update(a=2, b=2)
    rig.train(engine, 2)
    rig.step()
    before, failing = rig.state(), True
    with pytest.raises(ZeroDivisionError):
        engine.resume("main@1")
    assert_same(rig.state(), before)
    assert box == {"a": 2, "b": 2}
    assert engine.current_step == 2


def test_a_difference_in_hyperparameters_is_told_with_the_flag(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained(1)
    model = network()
    rig = Rig(model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5))
    with caplog.at_level(logging.WARNING, "gradient"):
        rig.attach(resume="latest")
    assert "weight_decay" in caplog.text
    assert "gradient fork … --set weight_decay=0.5" in caplog.text
    assert rig.optimizer.param_groups[0]["weight_decay"] == 0.01


# -- Parts that are the script's own ------------------------------------------------------------


class Warmup:
    """A scheduler of nobody's: it has two methods more than it needs."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.count, self.fails = optimizer, 0, False

    def step(self) -> None:
        self.count += 1
        self.optimizer.param_groups[0]["lr"] = 0.001 * self.count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        if self.fails:
            self.fails = False
            raise ZeroDivisionError


class Extra(torch.nn.Module):
    """A model with extra state that may refuse to be set."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
        self.seen: list[int] = []
        self.fails = False

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(batch))
        found: torch.Tensor = self.layer(batch)
        return found

    def get_extra_state(self) -> Any:
        return {"seen": list(self.seen)}

    def set_extra_state(self, state: Any) -> None:
        if self.fails:
            self.fails = False
            raise ZeroDivisionError
        self.seen = state["seen"]


def own() -> Rig:
    model = Extra()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return Rig(model, optimizer, Warmup(optimizer))


def test_a_scheduler_and_extra_state_of_the_scripts_own_come_back() -> None:
    rig = own()
    engine = rig.attach()
    rig.train(engine, 1, 2)
    two = rig.state()
    rig.train(engine, 3)
    other = own()
    other.attach("other").resume("main@2")
    assert_same(other.state(), two)
    assert (other.scheduler.count, other.model.seen) == (2, [5, 5])
    engine.fork(from_ref="main@3", new_branch="again", reset_scheduler=True, scale_lr=2)
    assert rig.scheduler.count == 0
    assert rig.optimizer.param_groups[0]["lr"] == 0.02


@pytest.mark.parametrize("part", ["model", "scheduler"])
def test_a_part_of_the_scripts_that_raises_leaves_everything_as_it_was(part: str) -> None:
    rig = own()
    engine = rig.attach()
    rig.train(engine, 1, 2)
    before = rig.state()
    getattr(rig, part).fails = True
    with pytest.raises(ZeroDivisionError):
        engine.resume("main@1")
    assert_same(rig.state(), before)
    assert (engine.branch, engine.current_step) == ("main", 2)
    rig.train(engine, 3)
    assert Repository.open("work/run").branches() == ["main"]


def test_a_getter_that_raises_stops_the_commit_alone() -> None:
    rig, engine = trained()
    broken = True

    def getter() -> int:
        if broken:
            raise ZeroDivisionError
        return 1

    engine.register_state("count", getter, lambda saved: None)
    engine.log(loss=1.0)
    with pytest.raises(ZeroDivisionError):
        rig.train(engine, 1)
    broken = False
    engine.commit(1)
    assert Repository.open("work/run").resolve("main@1").commit.metrics == {"loss": 1.0}


def test_wrappers_do_not_change_names() -> None:
    rig, engine = trained(1)
    state = rig.state()
    wrapped = network()
    holder = torch.nn.Module()
    holder.module = wrapped
    other = Rig(holder, torch.optim.AdamW(wrapped.parameters(), lr=0.01))
    other.attach("other").resume("main@1")
    assert_same(other.state(), state)
    del engine


@pytest.mark.parametrize("background", [False, True])
def test_the_scripts_default_device_is_not_that_of_what_is_stored(background: bool) -> None:
    rig, engine = trained(1)
    engine.close()
    expected = rig.state()
    other = Rig()
    other.step()
    with torch.device("meta"):
        engine = other.attach(config=config(background=background), resume="main@1")
        assert_same(other.state(), expected)
        engine.commit(2)
        engine.fork(from_ref="main@2", new_branch="fork", reset_optimizer=True)
        engine.resume("main@2")
        loaded = load("main@2", workspace="work", repo="run")
        engine.close()
    assert_same(other.state(), expected)
    assert same(loaded["model"], expected["model"])
    other.step()


def test_what_is_frozen_though_it_was_trained_is_told(caplog: pytest.LogCaptureFixture) -> None:
    _, engine = trained(1)
    engine.close()
    rig = Rig()
    rig.model[0].requires_grad_(requires_grad=False)
    rig.attach(resume="latest")
    text = "2 parameters are frozen here, but the optimizer of main@1 has state for them: 0.weight"
    assert text in caplog.text
    caplog.clear()
    with Rig().attach(resume="latest"):
        assert caplog.text == ""


def test_a_resume_in_inference_mode_is_one_to_train_on() -> None:
    def registered(engine: GradientEngine, rig: Rig) -> torch.optim.Optimizer:
        second = torch.optim.Adam(rig.model.parameters())
        engine.register_state("second", second)
        return second

    rig = Rig()
    engine = rig.attach()
    second = registered(engine, rig)
    rig.step()
    second.step()
    engine.commit(1)
    engine.close()
    other = Rig()
    with torch.inference_mode():
        late = registered(other.attach(resume="latest"), other)
    other.step()
    late.step()
