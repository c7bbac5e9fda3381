"""Folders that belong to somebody else, for tests that run as root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SOMEBODY = 54321
"""A user that no machine has."""

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give a repo to another user"
)


def give_away(path: Path) -> None:
    """Give a folder, and all that is in it, to somebody."""
    for each in (path, *path.rglob("*")):
        os.lchown(each, SOMEBODY, SOMEBODY)


def contents(path: Path) -> dict[str, tuple[int, int]]:
    """Return every file and folder below, with its inode and the time of its last change."""
    facts = {str(each): each.lstat() for each in (path, *path.rglob("*"))}
    return {name: (fact.st_ino, fact.st_mtime_ns) for name, fact in facts.items()}
