"""Repos for the tests of the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from tests.cli.plain_repo import PlainRepo


@pytest.fixture
def empty_repo() -> PlainRepo:
    """A workspace ``ws`` in the current folder, with the empty repo ``gpt``."""
    workspace = Path.cwd() / "ws"
    init_workspace(workspace)
    create_repo(workspace / "gpt", description="a tiny model", workspace_path=workspace)
    return PlainRepo(workspace, Repository.open(workspace / "gpt", workers=1))


@pytest.fixture
def history(empty_repo: PlainRepo) -> PlainRepo:
    """Three commits on main, a fork at the second with one more."""
    empty_repo.commit("main", 0, message="start")
    middle = empty_repo.commit("main", 50, delta=True, minute=1)
    empty_repo.commit("main", 100, message="a milestone\nwith a second line", delta=True, minute=2)
    empty_repo.commit("high_lr", 50, source=middle, minute=3)
    empty_repo.commit("high_lr", 60, minute=4, command="python train.py --lr 1e-2")
    return empty_repo
