"""The choice between anchors and deltas; both restore the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from gradient import GradientConfig, GradientEngine
from gradient.repo.repository import Repository
from tests.repo.making import damage_packs

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 300  # one weight is more than a chunk's worth of probing, and quick to train


class Rig:
    """A layer that drifts a little with every step, and an engine."""

    def __init__(self, path: Path, **config: object) -> None:
        torch.manual_seed(1)
        self.model = torch.nn.Linear(WIDTH, WIDTH)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        self.path = path
        self.engine = GradientEngine.attach(
            self.model,
            self.optimizer,
            workspace=path,
            repo="r",
            config=GradientConfig(view="off", **config),  # type: ignore[arg-type]
            resume="auto",
        )
        self.step = self.engine.current_step
        self.states: dict[str, list[torch.Tensor]] = {}
        for _ in range(20):
            self.train()

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(16, WIDTH)).pow(2).mean().backward()
        self.optimizer.step()

    def commit(self) -> str:
        """Train a step and commit; returns what kind of commit it was."""
        self.train()
        self.step += 1
        revision = self.engine.commit(self.step)
        self.states[revision] = self.now()
        return revision.type

    def now(self) -> list[torch.Tensor]:
        moments = [v for s in self.optimizer.state.values() for v in s.values()]
        return [t.detach().clone() for t in (*self.model.parameters(), *moments)]

    def packed(self) -> int:
        folder = self.path / "r" / ".gradient-repo" / "objects" / "pack"
        return sum(file.stat().st_size for file in folder.iterdir())

    def check(self) -> None:
        """Restore every commit and compare every bit."""
        for revision, state in self.states.items():
            self.engine.resume(revision)
            assert all(map(torch.equal, self.now(), state)), revision


def test_the_first_commit_is_an_anchor_and_the_next_are_smaller(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.commit() == "anchor"
    first = rig.packed()
    assert rig.commit() == "delta"
    assert rig.packed() - first < 0.9 * first
    rig.check()


def test_a_delta_names_its_anchor(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(3):
        rig.commit()
    repo = Repository.open(rig.engine.repo_path)
    commits = list(repo.line("main"))
    assert [commit.anchor for _, commit in commits] == [commits[-1][0], commits[-1][0], None]


@pytest.mark.parametrize("interval", [0, 1, 2])
def test_an_interval_forces_an_anchor_after_so_many_deltas(tmp_path: Path, interval: int) -> None:
    rig = Rig(tmp_path, reanchor_interval=interval)
    kinds = [rig.commit() for _ in range(6)]
    assert kinds == (["anchor"] + ["delta"] * interval) * (6 // (interval + 1))
    rig.check()


def test_the_interval_counts_on_after_a_resume(tmp_path: Path) -> None:
    rig = Rig(tmp_path, reanchor_interval=4)
    assert [rig.commit() for _ in range(3)] == ["anchor", "delta", "delta"]
    rig.engine.close()
    again = Rig(tmp_path, reanchor_interval=4)
    again.step = again.engine.resume("latest")
    assert [again.commit() for _ in range(3)] == ["delta", "delta", "anchor"]
    again.check()


def test_the_interval_counts_past_a_damaged_commit(tmp_path: Path) -> None:
    rig = Rig(tmp_path, reanchor_interval=4)
    assert [rig.commit() for _ in range(2)] == ["anchor", "delta"]
    rig.engine.commit(3)  # the same state: its pack holds little more than the commit
    rig.step = 3
    assert rig.commit() == "delta"
    repo = Repository.open(rig.engine.repo_path)
    rig.engine.close()
    damage_packs(repo, repo.resolve("main@3").oid)
    again = Rig(tmp_path, reanchor_interval=4)
    assert again.commit() == "delta"


@pytest.mark.filterwarnings("ignore:the former tip:UserWarning")
def test_the_interval_counts_from_where_the_run_was_put_back_to(tmp_path: Path) -> None:
    rig = Rig(tmp_path, reanchor_interval=3)
    assert [rig.commit() for _ in range(4)] == ["anchor", "delta", "delta", "delta"]
    rig.step = rig.engine.resume("main@2")
    assert [rig.commit() for _ in range(3)] == ["delta", "delta", "anchor"]


def test_a_fork_out_of_the_cycle_that_the_run_is_in_goes_on_with_deltas(tmp_path: Path) -> None:
    rig = Rig(tmp_path, reanchor_interval=4)
    assert [rig.commit() for _ in range(5)] == ["anchor", "delta", "delta", "delta", "delta"]
    assert rig.engine.fork(from_ref="main@2", new_branch="hot").type == "delta"
    rig.step = 2
    assert [rig.commit() for _ in range(3)] == ["delta", "delta", "anchor"]
    rig.check()


@pytest.mark.filterwarnings("ignore:the former tip:UserWarning")
def test_a_delta_that_was_too_dear_ends_no_other_cycle(tmp_path: Path) -> None:
    def drift(path: Path) -> Rig:
        rig = Rig(path)
        assert [rig.commit() for _ in range(2)] == ["anchor", "delta"]
        rig.optimizer.param_groups[0]["lr"] = 3e-3
        return rig

    rig = drift(tmp_path / "one")
    while rig.commit() == "delta":
        pass
    last = rig.step - 1
    again = drift(tmp_path / "another")
    while again.step < last:
        assert again.commit() == "delta"
    again.step = again.engine.resume("main@2")
    assert again.commit() == "delta"


def test_the_run_anchors_by_itself_once_a_delta_costs_more_than_the_mean(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.commit()
    kinds = []
    for _ in range(12):
        for group in rig.optimizer.param_groups:
            group["lr"] = 3e-3  # far from the anchor within a few commits
        kinds.append(rig.commit())
    assert "anchor" in kinds
    assert "delta" in kinds
    rig.check()


def test_compression_off_never_writes_deltas(tmp_path: Path) -> None:
    rig = Rig(tmp_path, compression="off")
    assert [rig.commit() for _ in range(3)] == ["anchor"] * 3
    rig.check()


def test_a_forks_first_commits_are_deltas_of_the_fork_points_anchor(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.commit()
    rig.commit()
    before = rig.packed()
    fork = rig.engine.fork(from_ref="main@2", new_branch="hot", scale_lr=2)
    assert fork.type == "delta"
    assert rig.packed() - before <= 16 << 10
    assert rig.commit() == "delta"
    repo = Repository.open(rig.engine.repo_path)
    assert len({commit.anchor for _, commit in repo.line("hot")} - {None}) == 1
    rig.check()


def test_an_anchor_writes_alone_what_only_deltas_had(tmp_path: Path) -> None:
    rig = Rig(tmp_path, reanchor_interval=1)
    rig.commit()
    rig.commit()
    rig.step += 1
    assert rig.engine.commit(rig.step).type == "anchor"  # the same state as the delta before
    rig.check()


def test_state_that_nobody_claims_is_part_of_the_next_anchor(tmp_path: Path) -> None:
    rig = Rig(tmp_path, reanchor_interval=1)
    extra = torch.randn(WIDTH, WIDTH)
    rig.engine.register_state("ema", lambda: {"w": extra}, lambda state: None)
    rig.commit()
    extra += 1e-6
    assert rig.commit() == "delta"
    rig.engine.close()
    again = Rig(tmp_path, reanchor_interval=1)
    again.step = again.engine.resume("latest")
    with pytest.warns(UserWarning, match="ema"):
        assert again.commit() == "anchor"
    again.engine.register_state(
        "ema", lambda: None, lambda state: again.states.update(ema=[state["w"]])
    )
    assert torch.equal(again.states["ema"][0], extra)


def test_one_percent_of_changed_elements_costs_a_fiftieth(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = torch.nn.Linear(1024, 1024, bias=False, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    engine = GradientEngine.attach(
        model, optimizer, workspace=tmp_path, repo="r", config=GradientConfig(view="off")
    )
    folder = tmp_path / "r" / ".gradient-repo" / "objects" / "pack"
    engine.commit(0)
    first = {file.name for file in folder.iterdir()}
    with torch.no_grad():
        chosen = torch.rand(model.weight.shape) < 0.01
        model.weight[chosen] *= 1.01
    engine.commit(1)
    (fresh,) = [file for file in folder.iterdir() if file.name not in first]
    assert fresh.stat().st_size * 50 <= model.weight.nbytes
