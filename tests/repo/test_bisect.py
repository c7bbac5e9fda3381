from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradient.codec.mode import Mode
from gradient.errors import ConflictError, MalformedObjectError, NotFoundError
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo import bisect
from gradient.repo.bisect import Bisection, BisectState, Verdict
from tests.repo.making import TIME, fork, make_repo, run

if TYPE_CHECKING:
    from gradient.repo.repository import Repository


def long_line(repo: Repository, length: int) -> list[Oid]:
    """Write a line in one pack, as quickly as can be."""
    oids: list[Oid] = []
    with repo.store.begin(mode=Mode.OFF) as transaction:
        tree = transaction.put(Kind.TREE, Tree({}).to_bytes())
        for step in range(length):
            made = CommitRecord(tree, tuple(oids[-1:]), None, step, "main", TIME)
            oids.append(transaction.put(Kind.COMMIT, made.to_bytes()))
        transaction.seal()
    repo.refs.append("main", oids[-1], after=None, reason="test")
    return oids


def test_tens_of_thousands_of_commits_need_log2_verdicts(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    oids = long_line(repo, 20_000)
    for culprit in (1, 13_337, 19_999):
        asked: list[Oid] = []
        first_bad = set(oids[culprit:])

        def judge(oid: Oid, asked: list[Oid] = asked, bad: set[Oid] = first_bad) -> Verdict:
            asked.append(oid)
            return "bad" if oid in bad else "good"

        found = bisect.search(Bisection.start(repo, oids[-1], oids[0]), judge)
        assert (found.first_bad, found.before) == (oids[culprit], oids[culprit - 1])
        assert found.candidates == (oids[culprit],)
        assert len(asked) <= math.ceil(math.log2(len(oids)))


@settings(max_examples=40)
@given(data=st.data())
def test_the_first_bad_one_is_always_among_the_candidates(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    repo = make_repo(tmp_path_factory.mktemp("repo"))
    length = data.draw(st.integers(2, 40))
    oids = long_line(repo, length)
    culprit = data.draw(st.integers(1, length - 1))
    skipped = data.draw(st.sets(st.integers(1, length - 1), max_size=length // 2))

    def judge(oid: Oid) -> Verdict:
        place = oids.index(oid)
        if place in skipped:
            return "skip"
        return "bad" if place >= culprit else "good"

    found = bisect.search(Bisection.start(repo, oids[-1], oids[0]), judge)
    assert oids[culprit] in found.candidates
    assert all(oids.index(oid) in skipped for oid in found.candidates[:-1])
    assert oids.index(found.before) == oids.index(found.candidates[0]) - 1


def test_a_search_is_gone_on_with_by_another_process(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    oids = run(repo, "main", *range(8))
    Bisection.start(repo, oids[-1], oids[0]).judge("good", oids[3])
    again = Bisection.load(repo)
    assert again.next() == oids[5]
    again.judge("skip", oids[5])
    again = Bisection.load(repo)
    assert again.next() == oids[4]
    again.judge("bad", oids[4])
    found = Bisection.load(repo).found()
    assert found is not None
    assert (found.before, found.first_bad) == (oids[3], oids[4])
    assert [each.verdict for each in again.state.log] == ["bad", "good", "good", "skip", "bad"]
    assert bisect.reset(repo)
    assert not bisect.reset(repo)
    with pytest.raises(NotFoundError, match="no search was started"):
        Bisection.load(repo)


def test_neighbours_are_found_at_once(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    oids = run(repo, "main", 0, 1)
    found = Bisection.start(repo, oids[1], oids[0]).found()
    assert found is not None
    assert found.first_bad == oids[1]


def test_the_good_commit_lies_before_the_bad_one_on_its_line(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    oids = run(repo, "main", 0, 10, 20)
    fork(repo, oids[1], "side")
    side = run(repo, "side", 30)
    for bad, good in ((oids[0], oids[2]), (oids[2], side[0]), (oids[1], oids[1])):
        with pytest.raises(ConflictError, match="the bad commit comes first"):
            Bisection.start(repo, bad, good)
    assert Bisection.start(repo, side[0], oids[0]).open == 3


def test_verdicts_must_not_contradict(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    oids = run(repo, "main", *range(6))
    bisection = Bisection.start(repo, oids[4], oids[1])
    for verdict, place in (("good", 4), ("bad", 1)):
        with pytest.raises(ConflictError, match="says the opposite"):
            bisection.judge(verdict, oids[place])  # type: ignore[arg-type]
    for place in (0, 5):
        with pytest.raises(ConflictError, match="is not between"):
            bisection.judge("good", oids[place])
    bisection.judge("bad", oids[4])
    assert bisection.open == 3


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"bad": "x", "good": "y", "log": []}'])
def test_a_damaged_note_says_how_to_begin_anew(tmp_path: Path, text: str) -> None:
    repo = make_repo(tmp_path / "repo")
    Path(repo.path, ".gradient-repo", bisect.NAME).write_text(text)
    with pytest.raises(MalformedObjectError, match="start again"):
        bisect.load_state(repo)


def test_a_state_knows_what_was_skipped() -> None:
    assert BisectState("a", "b", ()).skipped == frozenset()
