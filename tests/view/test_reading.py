from __future__ import annotations

import random
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import gradient
from gradient.engine.engine import GradientEngine
from gradient.errors import ContextError, UnknownRevisionError
from gradient.view import html
from gradient.view.api.commit import Commit
from gradient.view.api.component import Component
from gradient.view.api.repo import Repo
from tests.cli.command import ROOT
from tests.repo.making import damage_packs, make_repo, run

EVIL = "<script>alert('&\"')</script>"


class Tags(HTMLParser):
    """The tags of a text, checked to be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def net() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(3, 70), torch.nn.Linear(70, 2))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Three commits of a run, one of them with a message that a page must not obey."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    with GradientEngine.attach(
        model, optimizer, workspace=tmp_path / "ws", repo="gpt", hparams={"lr": 0.1}
    ) as engine:
        engine.register_state("mine", lambda: {"note": EVIL, "list": [1, 2]}, lambda state: None)
        engine.register_state("words", lambda: ["a", "b"], lambda state: None)
        for step in (1, 2, 3):
            model(torch.randn(5, 3)).sum().backward()
            optimizer.step()
            engine.commit(step, EVIL if step == 2 else "", metrics={"loss": step / 4})
    return gradient.open_repo(tmp_path / "ws")


def test_a_tensor_is_read_alone(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    model = repo["main@3"]["model"]
    read: list[int] = []
    real = repo._repo.store.read_blobs
    monkeypatch.setattr(
        repo._repo.store, "read_blobs", lambda jobs: (read.append(len(jobs)), real(jobs))[1]
    )
    assert model.shape("0.weight") == (70, 3)
    assert model.dtype("0.weight") == "float32"
    assert list(model) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert read == []
    assert torch.equal(model["1.weight"], model.read()["1.weight"])
    assert read[0] == 1


def test_commits_are_mappings_of_components(repo: Repo) -> None:
    commit = repo["main@2"]
    assert {"model", "optimizer", "rng", "mine", "words"} <= set(commit)
    assert (commit.step, commit.branch, commit.message) == (2, "main", EVIL)
    assert commit.metrics == {"loss": 0.5}
    assert commit.hparams == {"lr": 0.1}
    assert commit.environment["torch"] == torch.__version__
    assert commit.parents == [repo["main@1"]]
    assert commit == repo[commit.id]
    assert commit["words"] == ["a", "b"]
    assert commit["mine"]["note"] == EVIL
    with pytest.raises(KeyError, match="has no component 'nothing'"):
        commit["nothing"]


def test_nested_components_have_dotted_names(repo: Repo) -> None:
    optimizer = repo["main"]["optimizer"]
    state = optimizer["state"]
    assert torch.equal(optimizer["state.0.weight.exp_avg"], state["0.weight"]["exp_avg"])
    assert optimizer["param_groups"][0]["lr"] == 1e-3
    assert "param_groups" in list(optimizer)
    assert all(optimizer[name] is not None for name in optimizer)
    with pytest.raises(KeyError, match=r"nearest: .*exp_avg"):
        optimizer["state.0.weight.exp_av"]


def test_the_log_is_newest_first(repo: Repo) -> None:
    assert [commit.step for commit in repo.log()] == [3, 2, 1]
    assert [commit.step for commit in repo.log("main@2", limit=1)] == [2]
    assert repo.branches == ["main"]
    assert (repo.active_branch, repo.name, repo.tags) == ("main", "gpt", [])
    with pytest.raises(UnknownRevisionError):
        repo["main@9"]


def test_the_log_leaves_out_a_damaged_commit(tmp_path: Path) -> None:
    repository = make_repo(tmp_path)
    oids = run(repository, "main", 1, 2, 3)
    damage_packs(repository, oids[1])
    log = gradient.open_repo(tmp_path).log()
    assert [commit.step for commit in log] == [3, 1]


def test_an_empty_repo_has_an_empty_log(tmp_path: Path) -> None:
    gradient.init_workspace(tmp_path / "w")
    gradient.init_repo(tmp_path / "w" / "new")
    found = gradient.open_repo(tmp_path / "w" / "new")
    assert found.log() == []
    assert "no commits" in repr(found)
    with pytest.raises(ContextError):
        gradient.open_repo(tmp_path / "home")


def test_one_pattern_or_component_stands_alone(repo: Repo, tmp_path: Path) -> None:
    name = next(iter(repo["main@3"]["model"]))
    repo.export("main@3", tmp_path / "a.pt", match=name)
    assert list(torch.load(tmp_path / "a.pt")) == [name]
    repo.export("main@3", tmp_path / "b.pt", components="optimizer")
    repo.export("main@3", tmp_path / "c.pt", components=("optimizer",))
    assert (tmp_path / "b.pt").read_bytes() == (tmp_path / "c.pt").read_bytes()


def test_diff_and_export(repo: Repo, tmp_path: Path) -> None:
    found = repo.diff("main@1", repo["main@3"])
    assert (found.before, found.after) == ("main@1", "main@3")
    assert found.tensors.keys() == {"model"}
    assert repo.diff("main@1", "main@3", optimizer=True).tensors.keys() == {"model", "optimizer"}
    path = tmp_path / "weights.pt"
    repo.export("main@3", path, weights_only=True)
    model = net()
    model.load_state_dict(torch.load(path, weights_only=True))
    assert torch.equal(model.state_dict()["0.bias"], repo["main"]["model"]["0.bias"])


def test_representations_say_what_it_is_and_escape(repo: Repo) -> None:
    commit = repo["main@2"]
    component = commit["model"]
    assert repr(repo).startswith("<Repo 'gpt' at main@3, 1 branch, ")
    assert repr(commit).startswith(f"<Commit main@2 ({commit.oid.short}) ")
    assert repr(component) == "<Component main@2 model: 4 tensors, 422 elements>"
    for shown in (repo, commit, component, repo.log(), commit["mine"]):
        page = Tags(shown._repr_html_())
        assert page.seen <= {"div", "b", "table", "tr", "th", "td"}
    assert EVIL in Tags(commit._repr_html_()).text
    assert EVIL in Tags(repo.log()._repr_html_()).text
    assert isinstance(commit, Commit)
    assert isinstance(component, Component)


def test_components_are_compared_by_id(repo: Repo) -> None:
    assert repo["main@2"]["model"] == repo["main@2"]["model"]
    assert repo["main@2"]["model"] != repo["main@3"]["model"]
    assert len({repo["main@2"]["model"], repo["main@2"]["model"]}) == 1


def test_cards_leave_out_what_is_not_there() -> None:
    page = Tags(html.card(EVIL, {"a": None, "b": "", "c": 0, EVIL: EVIL}))
    assert page.text == f"{EVIL}c0{EVIL}{EVIL}"


def test_showing_an_engine_draws_and_replays_nothing(tmp_path: Path, repo: Repo) -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    place = Path(repo.path)
    with GradientEngine.attach(
        model, optimizer, workspace=place.parent, repo="gpt", resume="latest"
    ) as engine:
        engine.register_state("mine", dict, lambda state: None)
        engine.register_state("words", list, lambda state: None)
        torch.randn(3)
        random.random()
        before = torch.get_rng_state(), random.getstate()
        assert repr(engine) == "<GradientEngine gpt main@3>"
        page = Tags(engine._repr_html_())
        assert "GradientEngine gpt" in page.text
        assert "mine, words" in page.text
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]


def test_history_is_read_without_torch(repo: Repo) -> None:
    code = (
        "import sys, gradient\n"
        f"repo = gradient.open_repo({repo.path!r})\n"
        "shown = [repr(repo), repo._repr_html_(), repo.log()._repr_html_()]\n"
        "model = repo['main@3']['model']\n"
        "shown += [repr(model), model._repr_html_(), list(model), model.shape('0.weight')]\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
