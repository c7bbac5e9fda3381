from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.repo.branch_writer import BranchWriter
from gradient.repo.history import History
from tests.repo.making import commit, fork, make_repo, run

if TYPE_CHECKING:
    from pathlib import Path

    from gradient.repo.repository import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


def owned(repo: Repository) -> list[str]:
    return [entry.revision for entry in History(repo).newest()]


def test_an_empty_repo(repo: Repository) -> None:
    assert owned(repo) == []
    assert History(repo).summaries() == []


def test_each_commit_belongs_to_the_branch_it_was_made_on(repo: Repository) -> None:
    first, second = run(repo, "main", 0, 10)
    line = fork(repo, first, "a_fork")
    commit(line, 5)
    run(repo, "main", 20)

    assert owned(repo) == ["a_fork@0", "a_fork@5", "main@0", "main@10", "main@20"]
    history = History(repo)
    assert history.has("main", second)
    assert history.has("a_fork", first)
    assert not history.has("a_fork", second)
    assert not history.has("nowhere", second)


def test_every_revision_resolves_to_its_commit(repo: Repository) -> None:
    first, *_ = run(repo, "main", 0, 10, 10, 20)
    commit(BranchWriter.open(repo, "main").moved_to(first), 5)
    inner = fork(repo, first, "zzz")
    for step in (6, 7):
        commit(inner, step)

    for entry in History(repo).newest():
        assert repo.resolve(entry.revision).oid == entry.oid


def test_a_line_set_aside_takes_its_own_commits(repo: Repository) -> None:
    first, *_ = run(repo, "main", 0, 10, 20)
    commit(BranchWriter.open(repo, "main").moved_to(first), 5)

    assert owned(repo) == ["main@0", "main@5", "main.old1@10", "main.old1@20"]


def test_a_fork_of_a_line_set_aside(repo: Repository) -> None:
    first, second, _ = run(repo, "main", 0, 10, 20)
    fork(repo, second, "a_fork")
    commit(BranchWriter.open(repo, "main").moved_to(first), 5)

    assert owned(repo) == ["a_fork@10", "main@0", "main@5", "main.old1@10", "main.old1@20"]


def test_commits_of_a_branch_that_is_gone(repo: Repository) -> None:
    first, _ = run(repo, "main", 0, 10)
    fork(repo, first, "b_fork")
    tip = repo.refs.read("main")
    assert tip is not None
    repo.refs.delete("main", after=tip, reason="test")

    # Both are step 0 on the fork's line; the fork's own is the newer one.
    assert owned(repo) == ["b_fork@0"]
    assert len(History(repo).entries) == 2


def test_the_newest_of_one_step_is_listed(repo: Repository) -> None:
    *_, newest = run(repo, "main", 10, 10)

    (entry,) = History(repo).newest()
    assert entry.oid == newest


def test_summaries(repo: Repository) -> None:
    first, _ = run(repo, "main", 0, 10)
    fork(repo, first, "a_fork")

    a_fork, main = History(repo).summaries()

    assert (a_fork.branch, a_fork.step, a_fork.commits, a_fork.source) == ("a_fork", 0, 1, first)
    assert (main.branch, main.step, main.commits, main.source) == ("main", 10, 2, None)
    assert (main.anchors, main.deltas) == (2, 0)


def test_the_newest_is_not_the_one_that_a_fork_shares(repo: Repository) -> None:
    first, second = run(repo, "main", 0, 0)
    fork(repo, first, "a_fork")

    found = {entry.revision: entry.oid for entry in History(repo).newest()}
    assert found == {"a_fork@0": repo.tip("a_fork"), "main@0": second}
