from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradient.checkpoint.reader import read_value
from gradient.checkpoint.writer import write_state
from gradient.codec.mode import Mode
from gradient.engine.engine import GradientEngine
from gradient.errors import MisfitError
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo.branch_writer import BranchWriter
from tests.cli.command import call
from tests.cli.plain_repo import PlainRepo

if TYPE_CHECKING:
    from gradient.repo.repository import Repository


def commit_state(repo: Repository, branch: str, step: int, state: dict[str, Any]) -> Oid:
    """Commit a state on a branch."""
    line = BranchWriter.open(repo, branch).moved_to(repo.tip(branch))

    def build(name: str, parent: Oid | None) -> Oid:
        with repo.store.begin(mode=Mode.AUTO) as transaction:
            tree = write_state(transaction, state)
            parents = () if parent is None else (parent,)
            made = CommitRecord(tree, parents, None, step, name, "2026-02-10T12:34:56.000000")
            oid = transaction.put(Kind.COMMIT, made.to_bytes())
            transaction.seal()
        return oid

    return line.publish(step, build).commit


@pytest.fixture
def models(empty_repo: PlainRepo) -> PlainRepo:
    """The branches one, two and three with one model each, and a branch with a different model."""
    for number, branch in enumerate(("one", "two", "three"), 1):
        torch.manual_seed(number)
        state = {
            "model": torch.nn.Linear(3, 2).state_dict(),
            "optimizer": {"state": {}},
            "scheduler": {"last_epoch": number},
        }
        commit_state(empty_repo.repo, branch, 10 * number, state)
    commit_state(empty_repo.repo, "wide", 1, {"model": torch.nn.Linear(4, 2).state_dict()})
    return empty_repo


def weight(branch: str) -> torch.Tensor:
    torch.manual_seed({"one": 1, "two": 2, "three": 3}[branch])
    return torch.nn.Linear(3, 2).weight.detach().double()


def loaded(models: PlainRepo, revision: str) -> tuple[CommitRecord, dict[str, Any]]:
    import gradient

    repo = models.reopen()
    state = gradient.load(revision, workspace=models.workspace, repo="gpt")
    return repo.resolve(revision).commit, state


def test_a_merge_is_a_commit_with_all_parents(models: PlainRepo) -> None:
    done = call("merge", "one", "two", "--average", "--weights", "3,7", "-b", "soup")
    assert done.stdout.startswith("soup@10 (")
    commit, state = loaded(models, "soup")
    repo = models.reopen()
    assert commit.parents == (repo.tip("one"), repo.tip("two"))
    assert (commit.step, commit.branch, commit.anchor) == (10, "soup", None)
    assert commit.message == "merge of one, two by average"
    assert "\n  weights   0.3, 0.7\n" in call("show", "soup").stdout
    assert torch.equal(
        state["model"]["weight"], (0.3 * weight("one") + 0.7 * weight("two")).float()
    )
    assert state["scheduler"] == {"last_epoch": 1}
    assert commit.fork is not None
    assert read_value(repo.store, commit.fork) == {
        "from": [str(parent) for parent in commit.parents],
        "revision": ["one@10", "two@20"],
        "merge": "average",
        "weights": [0.3, 0.7],
    }


def test_three_models_weigh_the_same_without_weights(models: PlainRepo) -> None:
    call("merge", "one", "two", "three", "--average", "-b", "soup", "-m", "all of them")
    commit, state = loaded(models, "soup")
    mean = sum(weight(name) * (1 / 3) for name in ("one", "two", "three"))
    assert torch.equal(state["model"]["weight"], mean.float())
    assert (len(commit.parents), commit.message) == (3, "all of them")


def test_a_moving_average_runs_in_the_order_given(models: PlainRepo) -> None:
    call("merge", "one", "two", "three", "--ema", "--decay", "0.75", "-b", "slow")
    average = weight("one")
    for name in ("two", "three"):
        average = 0.75 * average + 0.25 * weight(name)
    torch.testing.assert_close(loaded(models, "slow")[1]["model"]["weight"], average.float())


def test_without_a_branch_the_merge_continues_the_first_ones(models: PlainRepo) -> None:
    before = models.repo.tip("one")
    call("merge", "one", "two", "--slerp")
    commit, _ = loaded(models, "one")
    assert commit.parents[0] == before
    refused = call("merge", "one~1", "two", "--slerp", code=5)
    assert "name a new one: -b BRANCH" in refused.output


def test_the_first_one_may_be_named_without_a_branch(models: PlainRepo) -> None:
    oid = str(models.repo.tip("one"))[:12]
    assert "-b BRANCH" in call("merge", oid, "two", "--average", code=2).output
    call("merge", oid, "two", "--average", "-b", "soup")
    call("merge", oid, "two", "--average", "-b", "soup", code=5)


def test_models_that_differ_are_refused_with_the_list(models: PlainRepo) -> None:
    done = call("merge", "one", "wide", "--average", "-b", "soup", code=1)
    assert "different: weight: float32 [2, 3] in one, float32 [2, 4] in wide" in done.output
    assert "soup" not in models.reopen().branches()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["one", "two"], "name the rule"),
        (["one", "--average"], "two or more revisions"),
        (["one", "one", "--average"], "each commit once"),
        (["one", "two", "three", "--slerp"], "--slerp merges exactly two"),
        (["one", "two", "--average", "--weights", "1"], "write 2 comma-separated numbers"),
        (["one", "two", "--average", "--weights", "1,x"], "write numbers with commas"),
        (["one", "two", "--average", "--weights", "1,-1"], "not all 0"),
        (["one", "two", "--average", "--weights", "1,nan"], "not all 0"),
        (["one", "two", "--average", "--decay", "0.5"], "--decay needs --ema"),
        (["one", "two", "--ema", "--weights", "1,1"], "--ema takes --decay"),
        (["one", "two", "--ema", "--decay", "2"], "a number from 0 to 1"),
    ],
)
def test_invalid_arguments_are_refused(
    models: PlainRepo, arguments: list[str], reason: str
) -> None:
    assert reason in call("merge", *arguments, "-b", "soup", code=2).output


def test_training_goes_on_from_a_merge_without_its_optimizer(models: PlainRepo) -> None:
    call("merge", "one", "two", "--average", "-b", "soup")
    for options in ({"components": ("model",)}, {"strict": False}):
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters())
        with GradientEngine.attach(
            model, optimizer, workspace=Path(models.workspace), repo="gpt"
        ) as engine:
            with pytest.raises(MisfitError):
                engine.resume("soup")
            engine.resume("soup", **options)  # type: ignore[arg-type]
            mean = 0.5 * weight("one") + 0.5 * weight("two")
            assert torch.equal(model.weight.detach(), mean.float())
