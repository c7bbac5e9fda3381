from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.objects import timestamp
from gradient.repo import last_run, paths
from gradient.repo.last_run import LastRun
from tests.repo.making import make_repo

if TYPE_CHECKING:
    from pathlib import Path


def test_the_note_comes_back(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    assert last_run.last_run(repo, []) is None
    run = LastRun("python 'a b.py'", "/somewhere", timestamp.now(), "resume main@1")
    last_run.record(repo.path, run)
    assert last_run.noted(repo.path) == last_run.last_run(repo, []) == run


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"command": 1, "cwd": "a", "time": "b"}'])
def test_a_damaged_note_is_none(content: str, tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    (tmp_path / paths.REPO_FOLDER / "last-run.json").write_text(content)
    assert last_run.last_run(repo, []) is None
