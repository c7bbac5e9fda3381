from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.errors import BranchExistsError, InvalidNameError
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.fork import fork_commit
from tests.repo.making import builder, make_repo, run, steps

if TYPE_CHECKING:
    from pathlib import Path


def test_the_branch_begins_with_the_sources_state(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    run(repo, "main", 1, 2, 3)
    source = repo.resolve("main@2")
    made = fork_commit(repo, source, "side", message="why")
    commit = repo.read_commit(made.commit)
    assert (commit.tree, commit.parents) == (source.commit.tree, (source.oid,))
    assert (commit.step, commit.branch, commit.message) == (2, "side", "why")
    assert steps(repo, "side") == [1, 2, 2]
    assert steps(repo, "main") == [1, 2, 3]
    assert repo.head is None


@pytest.mark.parametrize("finite", [True, False, None])
def test_the_fork_keeps_the_result_of_the_nan_check(finite: bool | None, tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    BranchWriter.open(repo, "main").publish(1, builder(repo, 1, finite=finite))
    made = fork_commit(repo, repo.resolve("main@1"), "side")
    assert repo.read_commit(made.commit).finite is finite


def test_the_fork_of_a_good_commit_is_the_last_finite_one(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    BranchWriter.open(repo, "main").publish(1, builder(repo, 1, finite=True))
    made = fork_commit(repo, repo.resolve("main@1"), "side")
    assert repo.resolve("side@last-finite").oid == made.commit


@pytest.mark.parametrize(
    ("name", "error"), [("main", BranchExistsError), ("a..b", InvalidNameError)]
)
def test_names_that_cannot_be(name: str, error: type[Exception], tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    run(repo, "main", 1)
    with pytest.raises(error):
        fork_commit(repo, repo.resolve("main@1"), name)
