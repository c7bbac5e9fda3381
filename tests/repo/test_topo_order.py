from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradient.objects.oid import Oid
from gradient.repo import topo_order
from tests.repo.making import commit, fork, make_repo, run

if TYPE_CHECKING:
    from pathlib import Path

DRAWINGS = {
    "a line": (["c:b", "b:a", "a:"], ["*", "*", "*"]),
    "a fork": (["d:b", "c:b", "b:a", "a:"], ["*", "| *", "|/", "*", "*"]),
    "two forks at once": (
        ["e:a", "d:a", "c:a", "a:"],
        ["*", "| *", "| | *", "| |/", "|/", "*"],
    ),
    "a merge": (["d:c,b", "c:a", "b:a", "a:"], ["*", "|\\", "* |", "| *", "|/", "*"]),
    "roots": (["b:", "d:c", "c:"], ["*", "*", "*"]),
    "a line that ends beside another": (
        ["d:c", "b:a", "c:", "a:"],
        ["*", "| *", "* |", " /", "*"],
    ),
    "across a line between": (
        ["e:a", "d:c", "b:a", "c:a", "a:"],
        ["*", "| *", "| | *", "| * |", "| |/", "|/", "*"],
    ),
}


def oid(name: str) -> Oid:
    return Oid(name.encode().ljust(32, b"\0"))


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawing(name: str) -> None:
    rows, expected = DRAWINGS[name]
    commits = []
    for row in rows:
        child, _, parents = row.partition(":")
        commits.append((oid(child), [oid(each) for each in parents.split(",") if each]))
    drawn = []
    for above, own in topo_order.draw(commits):
        drawn += [*above, own]
    assert drawn == expected


@given(st.lists(st.lists(st.integers(1, 6), max_size=3, unique=True), min_size=1, max_size=15))
def test_each_commit_is_drawn_once(parents: list[list[int]]) -> None:
    # Commit n names n + k for each k: what follows in the list.
    count = len(parents)
    commits = [
        (oid(f"c{at}"), [oid(f"c{at + k}") for k in each if at + k < count])
        for at, each in enumerate(parents)
    ]
    rows = list(topo_order.draw(commits))
    assert len(rows) == count
    for above, own in rows:
        assert own.count("*") == 1
        assert set(own) <= set("*| ")
        assert all(set(row) <= set("|/\\_ ") for row in above)


def test_children_come_before_their_parents(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    main = run(repo, "main", 0, 1, 2)
    other = fork(repo, main[1], "other")
    commit(other, 5)
    tips = list(repo.tips().values())
    found = [each for each, _ in topo_order.newest_first(repo, [*tips, tips[0], main[0]])]
    assert sorted(found) == sorted({*main, *(each for each, _ in repo.line("other"))})
    for at, each in enumerate(found):
        assert all(parent in found[at + 1 :] for parent in topo_order.parents(repo, each))
