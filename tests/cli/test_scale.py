"""Long histories: the number of files that a command reads must not grow with them."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from gradient.repo.repository import Repository
from gradient.storage import fs
from tests.cli.command import call
from tests.storage.faults import observed
from tools.make_large_repository import make

if TYPE_CHECKING:
    from pathlib import Path

COMMITS = 400


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scale") / "ws"
    make(path, commits=COMMITS, branches=4)
    return path


def opened(large: Path, *arguments: str) -> Counter[str]:
    """Count the files that a command opens, by folder."""
    counts: Counter[str] = Counter()

    def count(call: fs.Call) -> None:
        if call.operation == "open":
            counts[call.path.rpartition("/")[0].rpartition("/")[2]] += 1

    with observed(count):
        call("-C", str(large), *arguments)
    return counts


READING = [
    ("log",),
    ("log", "--graph", "--all", "--oneline"),
    ("rev-parse", "main@best:loss", "main@last-finite", "main@3", "main~100", "main@{7}"),
    ("metrics", "--csv"),
    ("branch", "-v", "--metric", "loss"),
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_history_is_read_from_multi_pack_indexes(large: Path, arguments: tuple[str, ...]) -> None:
    before = call("-C", str(large), *arguments, "--json").stdout
    Repository.open(large / "large").store.compact_indexes()
    counts = opened(large, *arguments)
    assert counts["ledgers"] >= 1
    assert counts["pack"] == 0
    assert call("-C", str(large), *arguments, "--json").stdout == before


@pytest.mark.parametrize("arguments", [("status",), ("show",), ("du",)], ids=lambda each: each[0])
def test_a_state_is_read_from_few_packs(large: Path, arguments: tuple[str, ...]) -> None:
    Repository.open(large / "large").store.compact_indexes()
    assert opened(large, *arguments)["pack"] <= 60


def test_the_tool_makes_the_repo_it_describes(large: Path) -> None:
    found = json.loads(call("-C", str(large), "status", "--json").stdout)
    assert found["checkpoints"] == COMMITS
    assert [row["fork_point"] for row in found["branches"]] == [
        None,
        "main@70",
        "main@140",
        "main@210",
    ]


def test_history_is_read_from_a_multi_pack_index_after_a_collection(tmp_path: Path) -> None:
    make(tmp_path / "ws", commits=600, branches=2)
    call("-C", str(tmp_path / "ws"), "forget", "--keep-last", "3", "--grace", "0")
    counts = opened(tmp_path / "ws", "log", "--oneline")
    assert (counts["ledgers"], counts["pack"]) == (1, 0)
    commits = json.loads(call("-C", str(tmp_path / "ws"), "log", "--json").stdout)["commits"]
    assert sum(each["forgotten"] is not None for each in commits) > 250
