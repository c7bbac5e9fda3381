"""Commands on a repo of another user: those that read work, those that write ask for a word."""

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
    """The history, in a workspace that belongs to somebody else."""
    give_away(history.workspace)
    return history.workspace


@pytest.mark.parametrize("words", READING)
def test_reading_works_and_writes_nothing(foreign: Path, words: str) -> None:
    before = contents(foreign)
    call("-w", str(foreign), *words.split())
    assert contents(foreign) == before


@pytest.mark.parametrize("words", WRITING)
def test_writing_asks_for_a_word(foreign: Path, words: str) -> None:
    before = contents(foreign)
    said = call("-w", str(foreign), *words.split(), code=5).output
    assert "belongs to uid 54321" in said
    remedy = f"export GRADIENT_SAFE_DIRECTORY={foreign}/gpt"
    assert remedy in said
    assert contents(foreign) == before
    # The word that was asked for suffices.
    call("-w", str(foreign), *words.split(), **{SAFE_DIRECTORY: f"{foreign}/gpt"})
