"""A repo made by a real training run with forks, once for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from tests.cli.command import call, finish, spawn

SCRIPT = Path(__file__).with_name("train.py")


@dataclass(frozen=True)
class Trained:
    """The repo ``ws/gpt`` in the current folder."""

    repo: Repository
    """The repo."""
    script: Path
    """The script that made it."""
    there: Path
    """The folder in which it ran."""


@pytest.fixture(scope="session")
def run_with_forks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, fork, and go back, in one launch of one script."""
    there = tmp_path_factory.mktemp("real")
    home = tmp_path_factory.mktemp("home")
    init_workspace(there / "ws")
    create_repo(there / "ws" / "gpt", description="a tiny model", workspace_path=there / "ws")
    shutil.copy(SCRIPT, there)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GRADIENT_")},
        "HOME": str(home),
        "PYTHONWARNINGS": "ignore",
    }
    words = ["-C", str(there), "run", "--", sys.executable, "train.py", "--forks"]
    finish(spawn(*words, env=environment, cwd=there))
    assert not list(home.iterdir())
    return there


@pytest.fixture
def trained(run_with_forks: Path) -> Trained:
    """A copy of the repo in the current folder, with a tag; a test may change it."""
    shutil.copytree(run_with_forks / "ws", "ws")
    call("tag", "good", "main@20")
    return Trained(
        Repository.open("ws/gpt", workers=1), run_with_forks / "train.py", run_with_forks
    )
