"""A damaged commit in the middle of a branch: commands show the rest, and report the damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradient.objects.oid import Oid
from tests.cli.command import call
from tests.cli.plain_repo import PlainRepo


@pytest.fixture
def lost(empty_repo: PlainRepo) -> tuple[list[Oid], list[Oid]]:
    """Seven commits on main, three of them lost, and a branch from the second commit."""
    oids = [empty_repo.commit("main", step, minute=step) for step in range(7)]
    empty_repo.commit("side", 9, source=oids[1], minute=9)
    gone = [oids[2], oids[3], oids[5]]
    for oid in gone:
        pack = empty_repo.repo.store.catalogue.index.find(oid)[0][0]
        path = Path(empty_repo.repo.path, ".gradient-repo", pack.name)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-3])
    return oids, gone


Lost = tuple[list[Oid], list[Oid]]


def test_log_continues_past_lost_commits_and_names_them(lost: Lost) -> None:
    oids, gone = lost
    shown = call("log", "--oneline").stdout.splitlines()
    assert [line.split()[0] for line in shown] == [oid.short for oid in reversed(oids)]
    for line, oid in zip(shown, reversed(oids), strict=True):
        assert (line == f"{oid.short}  cannot be read; to see why: gradient fsck") == (oid in gone)


def test_log_in_paragraphs(lost: Lost) -> None:
    oids, gone = lost
    shown = call("log").stdout
    for oid in oids:
        assert (f"commit {oid}" in shown) == (oid not in gone)
        assert (f"\n{oid.short}  cannot be read" in shown) == (oid in gone)


def test_log_as_a_graph(lost: Lost) -> None:
    oids, gone = lost
    shown = call("log", "--graph", "--all", "--oneline").stdout
    drawn = [line.split()[1:3] for line in shown.splitlines() if "*" in line]
    assert len(drawn) == len(oids) - len(gone) + 1
    assert shown.count("cannot be read; to see why: gradient fsck") == len(gone)
    assert all(shown.count(oid.short) == 1 for oid in oids)


@pytest.mark.parametrize("words", ["log", "log --all", "log main", "log main@0..main@6"])
def test_json_lists_lost_commits_separately(lost: Lost, words: str) -> None:
    oids, gone = lost
    found = json.loads(call(*words.split(), "--json").stdout)
    ids = {each["id"] for each in found["commits"]}
    assert {str(oid) for oid in oids[1:]} - ids == set(map(str, gone))
    assert sorted(found["unreadable"]) == sorted(map(str, gone))


def test_status_counts_the_other_commits_and_names_the_remedy(lost: Lost) -> None:
    oids, gone = lost
    found = json.loads(call("status", "--json").stdout)
    assert sorted(found["unreadable"]) == sorted(map(str, gone))
    assert found["checkpoints"] == len(oids) - len(gone) + 1
    printed = call("status").stdout
    assert "unreadable; to see what is damaged and what can be saved: gradient fsck" in printed
    assert all(oid.short in printed for oid in gone)


def test_branch_and_show_work_next_to_damage(lost: Lost) -> None:
    oids, _ = lost
    assert "side" in call("branch").stdout
    assert str(oids[1]) in call("show", "main@1").stdout


def test_tilde_counts_a_lost_commit_as_a_step(lost: Lost) -> None:
    oids, _ = lost
    assert call("rev-parse", "main~5").stdout.strip() == str(oids[1])
    assert oids[5].hex() in call("rev-parse", "main~1", code=3).stderr


def test_it_is_an_error_if_the_reflog_does_not_name_the_parent(empty_repo: PlainRepo) -> None:
    first = empty_repo.commit("main", 1)
    empty_repo.commit("main", 2)
    pack = empty_repo.repo.store.catalogue.index.find(first)[0][0]
    path = Path(empty_repo.repo.path, ".gradient-repo", pack.name)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])
    for words in ("log", "status", "rev-parse main~2"):
        assert "is corrupt" in call(*words.split(), code=3).output
