from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from gradient.repo import failed_commits, paths, ref_edits
from tests.repo.making import make_repo, run
from tests.storage.faults import Fault, observed

if TYPE_CHECKING:
    from pathlib import Path


def test_a_note_comes_back_counts_and_goes(tmp_path: Path) -> None:
    repo = make_repo(tmp_path).path
    assert failed_commits.noted(repo) == []
    failed_commits.note(repo, "a/b", 10, "failed", "no space left\nsecond line")
    failed_commits.note(repo, "a/b", 20, "skipped", "no room")
    failed_commits.note(repo, "a/b", 30, "skipped", "no room")
    failed_commits.note(repo, "Main", 7, "failed", "")
    first, second = failed_commits.noted(repo)
    assert (first.branch, first.step, first.how, first.failed) == ("Main", 7, "failed", 1)
    assert (second.branch, second.step, second.how, second.reason) == (
        ("a/b", 30, "skipped", "no room")
    )
    assert (second.failed, second.skipped) == (1, 2)
    failed_commits.clear(repo, "a/b", "nobody")
    assert failed_commits.noted(repo) == [first]


def test_a_reason_may_name_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    repo = make_repo(tmp_path).path
    failed_commits.note(repo, "main", 1, "failed", "cannot write a\udcff")
    assert [each.reason for each in failed_commits.noted(repo)] == ["cannot write a\udcff"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"step": true, "how": "failed", "reason": "", "time": "", "failed": 1, "skipped": 0}',
        b'{"step": 1, "how": "other", "reason": "", "time": "", "failed": 1, "skipped": 0}',
    ],
)
def test_a_damaged_note_is_none_and_is_replaced(content: bytes, tmp_path: Path) -> None:
    repo = make_repo(tmp_path).path
    folder = tmp_path / paths.REPO_FOLDER / "missed"
    folder.mkdir()
    (folder / "main").write_bytes(content)
    (folder / ".main.tmp-0").write_bytes(content)
    (folder / "UPPER").write_bytes(content)
    assert failed_commits.noted(repo) == []
    failed_commits.note(repo, "main", 1, "failed", "why")
    assert [each.failed for each in failed_commits.noted(repo)] == [1]


def test_nothing_that_goes_wrong_with_a_note_is_raised(tmp_path: Path) -> None:
    repo = make_repo(tmp_path).path
    with observed(Fault(0, errno.ENOSPC, persistent=True)):
        failed_commits.note(repo, "main", 1, "failed", "why")
        failed_commits.clear(repo, "main")
    assert failed_commits.noted(repo) == []


def test_a_deleted_branch_misses_nothing(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    run(repo, "main", 1)
    run(repo, "idea", 1)
    failed_commits.note(repo.path, "idea", 2, "failed", "why")
    ref_edits.delete_branch(repo, "idea")
    assert failed_commits.noted(repo.path) == []
