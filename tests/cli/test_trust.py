"""Commands on another user's repo: reading works, and writing needs permission."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradient.repo.trust import SAFE_DIRECTORY
from tests.cli.command import call
from tests.cli.plain_repo import PlainRepo
from tests.foreign_owner import contents, give_away, needs_root

READING = [
    "status",
    "log --all --graph",
    "show main@50",
    "diff main@0 main@100",
    "branch",
    "reflog",
    "du",
    "ls-tree main",
    "rev-parse latest",
    "export main model.safetensors",
    "fsck",
    "gc --dry-run",
    "workspace status",
]
WRITING = [
    "switch high_lr",
    "branch new main@50",
    "branch -d high_lr",
    "tag v1 main@50",
    "reset main@50",
    "fork main@50 other",
    "merge main high_lr --average",
    "gc",
    "gc --undo",
    "forget --keep-last 1",
    "view rebuild",
    "fsck --repair",
    "bisect start main@100 main@0",
    "run -r gpt -- true",
]

pytestmark = needs_root


@pytest.fixture
def foreign(history: PlainRepo) -> Path:
    """The history, in a workspace that belongs to another user."""
    give_away(history.workspace)
    return history.workspace


@pytest.mark.parametrize("words", READING)
def test_reading_works_and_writes_nothing(foreign: Path, words: str) -> None:
    before = contents(foreign)
    call("-w", str(foreign), *words.split())
    assert contents(foreign) == before


@pytest.mark.parametrize("words", WRITING)
def test_writing_needs_permission(foreign: Path, words: str) -> None:
    before = contents(foreign)
    printed = call("-w", str(foreign), *words.split(), code=5).output
    assert "belongs to uid 54321" in printed
    remedy = f"export GRADIENT_SAFE_DIRECTORY={foreign}/gpt"
    assert remedy in printed
    assert contents(foreign) == before
    # The word that was asked for suffices.
    call("-w", str(foreign), *words.split(), **{SAFE_DIRECTORY: f"{foreign}/gpt"})
