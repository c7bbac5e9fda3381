from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.repo import layout, runs
from gradient.repo.config import timestamp
from gradient.repo.runs import LastRun
from tests.repo.making import make_repo

if TYPE_CHECKING:
    from pathlib import Path


def test_the_note_comes_back(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    assert runs.last_run(repo, []) is None
    run = LastRun("python 'a b.py'", "/somewhere", timestamp(), "resume main@1")
    runs.record(repo.path, run)
    assert runs.noted(repo.path) == runs.last_run(repo, []) == run


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"command": 1, "cwd": "a", "time": "b"}'])
def test_a_damaged_note_is_none(content: str, tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    (tmp_path / layout.REPO_FOLDER / "last-run.json").write_text(content)
    assert runs.last_run(repo, []) is None
