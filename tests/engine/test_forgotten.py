"""Training resumes from partly forgotten commits, and never from wholly forgotten ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import gradient
from gradient import ForgottenError, GradientEngine
from gradient.maintenance.fsck.check import check
from gradient.maintenance.garbage_collection import collect
from gradient.repo.repository import Repository
from gradient.view.compare import compare, revision_side
from gradient.view.export import Selection, export
from gradient.view.updates import follow_refs
from tests.engine.training_rig import Rig, assert_same, config, network, trained
from tests.state.value_roundtrip import same

POLICY = "--keep-last 1 --drop optimizer"


class Ema:
    """Something that is registered."""

    def __init__(self) -> None:
        self.value = torch.arange(1000.0)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def let_go(*steps: int, drop: list[str] | None = None) -> Repository:
    """Let go of commits on main, and collect what nothing needs."""
    repo = Repository.open("work/run", workers=1)
    found = {commit.step: oid for oid, commit in repo.line("main")}
    repo.retention.append([found[step] for step in steps], drop=drop, policy=POLICY)
    collect(repo, grace=0.0)
    assert check("work/run", workers=1).findings == ()
    return Repository.open("work/run", workers=1)


def wide(*steps: int) -> tuple[Rig, GradientEngine]:
    """Make a run whose chunks do not stand inline."""
    rig = Rig(network(100))
    engine = rig.attach()
    rig.train(engine, *steps)
    return rig, engine


def test_the_weights_stay_where_the_optimizer_is_dropped() -> None:
    rig, engine = wide(1)
    weights = rig.state()["model"]
    rig.train(engine, 2)
    repo = let_go(1, drop=["optimizer"])
    with pytest.raises(ForgottenError, match="the optimizer of main@1 was dropped"):
        engine.resume("main@1")
    with pytest.raises(ForgottenError):
        gradient.load("main@1", workspace="work", repo="run")
    oid = repo.resolve("main@1").oid
    export(repo, oid, "m.pt", Selection(weights_only=True))
    assert same(torch.load("m.pt"), dict(weights))
    side = revision_side(repo, oid, "one", optimizer=False)
    assert compare(side, side).tensors["model"].tensors
    with pytest.raises(ForgottenError):
        revision_side(repo, oid, "one")
    assert engine.resume("main@1", components=("model",)) == 1
    assert same(rig.state()["model"], weights)


def test_resuming_one_with_an_optimizer_that_starts_afresh() -> None:
    rig, engine = wide(1, 2)
    before = rig.state()
    rig.train(engine, 3)
    let_go(2, drop=["optimizer"])
    assert engine.resume("main@2", reset_optimizer=True) == 2
    after = rig.state()
    assert after["optimizer"]["state"] == {}
    assert same(after["optimizer"]["param_groups"], before["optimizer"]["param_groups"])
    for name in ("model", "scheduler", "rng"):
        assert same(after[name], before[name]), name
    with pytest.warns(UserWarning, match="set aside"):
        rig.train(engine, 3)
    assert check("work/run", workers=1).findings == ()
    forked = engine.fork(from_ref="main.old1@2", new_branch="exp", reset_optimizer=True)
    assert forked == "exp@2"
    with pytest.raises(ForgottenError):
        engine.fork(from_ref="main.old1@2", new_branch="other")
    with pytest.raises(gradient.ConfigError, match="leaves it out instead"):
        engine.resume("exp@2", reset_optimizer=True, components=("model",))


def test_an_optimizer_that_is_there_can_start_afresh_too() -> None:
    rig, engine = trained(1, 2)
    engine.resume("main@1", reset_optimizer=True)
    assert rig.state()["optimizer"]["state"] == {}


def test_the_handoff_resets_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    wide(1, 2)[1].close()
    let_go(1, drop=["optimizer"])
    monkeypatch.setenv("GRADIENT_RESUME_REF", "main@1")
    with pytest.raises(ForgottenError):
        Rig(network(100)).attach()
    monkeypatch.setenv("GRADIENT_RESET_OPTIMIZER", "1")
    rig = Rig(network(100))
    assert rig.attach().current_step == 1
    assert rig.state()["optimizer"]["state"] == {}


@pytest.mark.parametrize("required", [True, False])
def test_a_registered_state_that_is_dropped(required: bool) -> None:
    rig = Rig()
    with rig.attach() as engine:
        engine.register_state("ema", Ema())
        rig.train(engine, 1, 2)
    repo = let_go(1, drop=["ema"])
    assert "ema" not in revision_side(repo, repo.resolve("main@1").oid, "one").tensors
    with rig.attach(resume="main@1") as engine:
        if required:
            with pytest.raises(ForgottenError, match="the ema of main@1"):
                engine.register_state("ema", Ema())
        else:
            engine.register_state("ema", Ema(), required=False)
        with pytest.warns(UserWarning, match="set aside"):
            rig.train(engine, 2)
    state = gradient.load("main@2", workspace="work", repo="run")
    assert ("ema" in state) is not required, "what is gone is not carried forward"


def test_a_run_goes_on_while_its_anchor_is_forgotten() -> None:
    rig = Rig(network(300))
    with rig.attach() as engine:
        rig.train(engine, 1, 2, 3)
        let_go(1, 2)
        rig.train(engine, 4)
    let_go(3)
    with rig.attach(resume="latest") as engine:
        rig.train(engine, 5, 6)
        expected = rig.state()
    other = Rig(network(300))
    with other.attach(resume="latest"):
        assert_same(other.state(), expected)
    with pytest.raises(ForgottenError, match="Nearest whole commit: main@4"):
        Rig(network(300)).attach(resume="main@3")


def test_the_view_follows() -> None:
    rig = Rig()
    with rig.attach(config=config(view="full")) as engine:
        rig.train(engine, 1, 2, 3)
    let_go(1)
    follow_refs(let_go(2, drop=["optimizer"]))
    assert sorted(path.name for path in Path("work/run").glob("*.pt")) == ["ckpt_main_s3.pt"]
    entries = json.loads(Path("work/run/manifest.json").read_text())["checkpoints"]
    told = {entry["step"]: (entry["file"], entry.get("forgotten")) for entry in entries}
    assert told[1][0] is told[2][0] is told[3][1] is None
    assert told[1][1]["components"] is None
    assert told[2][1]["components"] == ["optimizer"]
    assert told[1][1]["policy"] == POLICY
    assert check("work/run", workers=1).findings == ()


def test_reading_says_so() -> None:
    wide(1, 2, 3)
    repo = let_go(1)
    let_go(2, drop=["optimizer"])
    reading = gradient.open_repo("work/run")
    assert [commit.forgotten for commit in reading.log()] == [False, False, True]
    assert "forgotten" in reading["main@1"]._repr_html_()
    assert list(reading["main@2"]["model"])
    for refused in (
        lambda: list(reading["main@1"]),
        lambda: reading["main@2"]["optimizer"],
        lambda: reading.diff("main@1", "main@3"),
        lambda: reading.diff("main@2", "main@3", optimizer=True),
        lambda: reading.export("main@1", "x.pt"),
        lambda: reading.export("main@2", "x.pt"),
        lambda: gradient.load("main@1", workspace="work", repo="run"),
    ):
        with pytest.raises(ForgottenError):
            refused()
    assert reading.diff("main@2", "main@3").tensors["model"].tensors
    assert repo.resolve("main@2").commit.step == 2
