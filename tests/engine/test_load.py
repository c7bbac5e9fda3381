"""A commit as plain data: by revision, by file, by thin file, verified or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gradient import (
    ContextError,
    GradientConfig,
    MalformedObjectError,
    NotFoundError,
    UnknownRevisionError,
    load,
)
from gradient.repo.repository import Repository
from gradient.view.export import export
from tests.engine.training_rig import Rig, assert_same, config


@pytest.fixture(params=["full", "thin"])
def run(request: pytest.FixtureRequest) -> Rig:
    """Commit two steps with a registered state, and a view of either kind."""
    rig = Rig()
    engine = rig.attach(config=config(view=request.param))
    engine.register_state("env", lambda: {"count": 3}, lambda saved: None)
    rig.train(engine, 1)
    rig.step()
    engine.commit(2, "two", metrics={"loss": 1.5})
    engine.close()
    return rig


def check(state: dict[str, Any], rig: Rig) -> None:
    assert state["step"] == 2
    assert_same(dict(state["model"]), dict(rig.model.state_dict()))
    assert state["env"] == {"count": 3}
    assert state["meta"]["metrics"] == {"loss": 1.5}
    assert state["meta"]["message"] == "two"
    other = Rig()
    other.model.load_state_dict(state["model"])
    other.optimizer.load_state_dict(state["optimizer"])
    other.scheduler.load_state_dict(state["scheduler"])
    assert_same(other.state()["optimizer"], rig.state()["optimizer"])


def test_a_revision_a_file_and_a_path_are_the_same_state(
    run: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(load("main@2", workspace="work", repo="run"), run)
    check(load("latest"), run)
    check(load(Path("work/run/ckpt_main_s2.pt")), run)
    monkeypatch.chdir("work/run")
    check(load("main"), run)
    check(load("ckpt_main_s2.pt"), run)


def test_an_exported_file_is_the_same_state(run: Rig) -> None:
    repo = Repository.open("work/run")
    export(repo, repo.resolve("main@2").oid, "out.pt")
    check(load("out.pt"), run)


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"none\.pt"):
        load("none.pt")
    with pytest.raises(ContextError):
        load("main@1")
    Rig().attach(config=GradientConfig("work", "run")).commit(1)
    with pytest.raises(UnknownRevisionError):
        load("main@9")


class Evil:
    """Would run code where a pickle is trusted."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 torn", "evil", "other"])
def test_a_file_that_is_no_checkpoint_is_refused_and_runs_nothing(content: Any) -> None:
    path = Path("x.pt")
    if content == "evil":
        torch.save({"data": Evil()}, path)
    elif content == "other":
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    with pytest.raises(MalformedObjectError):
        load("x.pt")
    assert not Path("ran").exists()
