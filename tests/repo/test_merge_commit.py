"""Where a merge goes, beside others who commit there."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradient.errors import ConflictError
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.merge_commit import line_for
from gradient.repo.repository import Repository
from tools.campaigns.synthetic_repo import commit, go_on, make


def test_a_commit_made_as_a_merge_begins_is_not_one_that_it_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make(tmp_path / "run")
    commit(go_on(repo, "main"), 1, 0)
    first = repo.resolve("main")
    opened = BranchWriter.open.__func__  # type: ignore[attr-defined]

    def slowly(cls: type[BranchWriter], repo: Repository, branch: str) -> BranchWriter:
        monkeypatch.setattr(BranchWriter, "open", classmethod(opened))
        commit(go_on(Repository.open(repo.path), branch), 2, 8)
        line: BranchWriter = opened(cls, repo, branch)
        return line

    monkeypatch.setattr(BranchWriter, "open", classmethod(slowly))
    with pytest.raises(ConflictError, match="not the newest commit of 'main'"):
        line_for(repo, first, None)
    assert repo.branches() == ["main"]
