from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.errors import (
    BranchExistsError,
    ConflictError,
    InvalidNameError,
    UnknownRevisionError,
)
from gradient.repo import ref_edits
from gradient.storage import fs
from tests.repo.making import make_repo, run
from tests.storage.faults import observed

if TYPE_CHECKING:
    from pathlib import Path

    from gradient.objects.oid import Oid
    from gradient.repo.repository import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def main(repo: Repository) -> list[Oid]:
    return run(repo, "main", 0, 100, 200)


def test_a_branch_begins_at_a_commit(repo: Repository, main: list[Oid]) -> None:
    ref_edits.create_branch(repo, "idea", main[1])
    assert repo.tip("idea") == main[1]
    with pytest.raises(BranchExistsError):
        ref_edits.create_branch(repo, "idea", main[0])
    with pytest.raises(InvalidNameError):
        ref_edits.create_branch(repo, "IDEA", main[0])


def test_a_rename_keeps_the_tip_and_moves_head(repo: Repository, main: list[Oid]) -> None:
    repo.set_head("main")
    ref_edits.rename_branch(repo, "main", "trunk")
    assert repo.branches() == ["trunk"]
    assert repo.head == "trunk"
    assert repo.tip("trunk") == main[2]
    with pytest.raises(UnknownRevisionError):
        ref_edits.rename_branch(repo, "main", "x")
    ref_edits.create_branch(repo, "other", main[0])
    with pytest.raises(BranchExistsError):
        ref_edits.rename_branch(repo, "trunk", "other")


def test_deleting_ends_a_branch_and_keeps_its_log(repo: Repository, main: list[Oid]) -> None:
    with pytest.raises(ConflictError, match="active"):
        ref_edits.delete_branch(repo, "main")
    ref_edits.create_branch(repo, "idea", main[1])
    assert ref_edits.delete_branch(repo, "idea") == main[1]
    assert repo.branches() == ["main"]
    assert repo.resolve("idea@{0}").oid == main[1]
    with pytest.raises(UnknownRevisionError):
        ref_edits.delete_branch(repo, "idea")
    ref_edits.create_branch(repo, "idea", main[1])
    assert repo.tip("idea") == main[1]


def test_tags_stay_unless_forced(repo: Repository, main: list[Oid]) -> None:
    ref_edits.create_tag(repo, "v1", main[0], reason="tag", force=False)
    with pytest.raises(ConflictError, match="--force"):
        ref_edits.create_tag(repo, "v1", main[1], reason="tag", force=False)
    ref_edits.create_tag(repo, "v1", main[1], reason="tag", force=True)
    assert repo.resolve("v1").oid == main[1]
    assert ref_edits.delete_tag(repo, "v1") == main[1]
    with pytest.raises(UnknownRevisionError):
        ref_edits.delete_tag(repo, "v1")


def test_reset_sets_the_old_tip_aside_once(repo: Repository, main: list[Oid]) -> None:
    assert ref_edits.reset_branch(repo, "main", main[1], reason="") == "main.old1"
    assert repo.tip("main") == main[1]
    assert repo.tip("main.old1") == main[2]
    # Forwards nothing is left behind.
    assert ref_edits.reset_branch(repo, "main", main[2], reason="") is None
    # The same tip has a name already.
    assert ref_edits.reset_branch(repo, "main", main[0], reason="") == "main.old1"
    assert repo.branches() == ["main", "main.old1"]
    assert ref_edits.reset_branch(repo, "main", main[0], reason="") is None
    with pytest.raises(UnknownRevisionError):
        ref_edits.reset_branch(repo, "gone", main[0], reason="")


@pytest.mark.parametrize("move", ["rename", "reset"])
def test_a_kill_at_any_call_loses_no_commit(tmp_path: Path, move: str) -> None:
    class Killed(BaseException):
        pass

    for calls in range(1000):
        repo = make_repo(tmp_path / f"{move}{calls}")
        oids = run(repo, "main", 0, 1)
        left = calls

        def kill(call: fs.Call) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed

        done = False
        try:
            with observed(kill):
                if move == "rename":
                    ref_edits.rename_branch(repo, "main", "other")
                else:
                    ref_edits.reset_branch(repo, "main", oids[0], reason="")
                done = True
        except Killed:
            pass
        repo = type(repo).open(repo.path)
        reachable = {oid for branch in repo.branches() for oid, _ in repo.line(branch)}
        assert reachable == set(oids)
        if done:
            return
    pytest.fail("it never came to an end")
