"""A damaged commit in the middle of a line hides what lies behind it, but not for long."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gradient.errors import IntegrityError, UnknownRevisionError
from gradient.repo import ref_edits
from gradient.repo.bisect import line_between
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.repo.topo_order import newest_first, parents
from tests.repo.making import builder, commit, damage_packs, fork, make_repo, run


def test_what_lies_behind_is_found_by_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30, 40, 50)
    damaged = damage_packs(repo, oids[1], oids[2])
    assert damaged.resolve("main@40").oid == oids[3]
    assert not [text for text in caplog.messages if "came before" in text]
    assert damaged.resolve("main@10").oid == oids[0]
    assert [text for text in caplog.messages if "came before" in text] == [
        f"commit {lost.short} cannot be read; by its branch's log, {before.short} came before it. "
        f"What is damaged, and what can be saved: gradient fsck"
        for lost, before in ((oids[2], oids[1]), (oids[1], oids[0]))
    ]
    assert damaged.inferred_parents == {oids[2]: oids[1], oids[1]: oids[0]}
    # Of the lost ones nothing is known but the id.
    for lost in ("main@20", "main@30", "main@25"):
        with pytest.raises(IntegrityError):
            damaged.resolve(lost)


def test_a_fence_is_passed_over(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20)
    repo.refs.fence("main", reason="test")
    oids += run(repo, "main", 30, 40)
    for lost in (1, 2):
        damaged = damage_packs(repo, oids[lost])
        assert damaged.resolve("main@10").oid == oids[0]


def test_a_line_that_was_left_is_not_taken_for_what_came_before(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30)
    rewound = BranchWriter.open(repo, "main").moved_to(oids[0])
    again = [commit(rewound, step).commit for step in (15, 25)]
    assert repo.tip("main.old1") == oids[2]
    ref_edits.rename_branch(repo, "main.old1", "kept")
    damaged = damage_packs(repo, again[0])
    for behind in ("main@10", "main@20", "main@30"):  # 20 and 30 are not on the line at all
        with pytest.raises(IntegrityError):
            damaged.resolve(behind)
    assert damaged.resolve("kept@20").oid == oids[1]


def test_the_log_of_the_branch_it_was_made_on_counts(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30)
    fork(repo, oids[2], "side")
    run(repo, "side", 40)
    run(repo, "other", 5)
    ref_edits.reset_branch(repo, "other", oids[1], reason="reset")
    damaged = damage_packs(repo, oids[1])
    assert damaged.resolve("side@10").oid == oids[0]


def test_where_a_branch_begins_its_log_says_nothing(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20)
    fork(repo, oids[1], "side")
    begun = repo.tips()["side"]
    run(repo, "side", 40)
    with pytest.raises(IntegrityError):
        damage_packs(repo, begun).resolve("side@10")


def test_a_lost_commit_counts_as_a_step_back(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30, 40, 50)
    damaged = damage_packs(repo, oids[1], oids[2])
    assert damaged.resolve("main~1").oid == oids[3]
    assert damaged.resolve("main~4").oid == damaged.resolve("main~3~").oid == oids[0]
    for lost in ("main~2", "main~3"):
        with pytest.raises(IntegrityError):
            damaged.resolve(lost)
    with pytest.raises(UnknownRevisionError, match="begins at main@10"):
        damaged.resolve("main~5")


def test_ranges_leave_it_out(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30, 40)
    damaged = damage_packs(repo, oids[2])
    assert damaged.resolve_range("main@10..main").oids == (oids[3], oids[1])


def test_words_get_past_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    writer = BranchWriter.open(repo, "main")
    oids = [
        writer.publish(step, builder(repo, step, metrics={"loss": loss})).commit
        for step, loss in ((10, 1.0), (20, 2.0), (30, 3.0), (40, math.inf))
    ]
    damaged = damage_packs(repo, oids[2])
    assert damaged.resolve("main@last-finite").oid == oids[1]
    assert damaged.resolve("main@best:loss").oid == oids[0]


def test_a_branch_is_reset_past_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30, 40)
    damaged = damage_packs(repo, oids[1])
    assert ref_edits.reset_branch(damaged, "main", oids[2], reason="reset") == "main.old1"
    assert damaged.tips() == {"main": oids[2], "main.old1": oids[3]}


def test_a_search_by_halves_stops_at_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30)
    damaged = damage_packs(repo, oids[1])
    with pytest.raises(IntegrityError):
        line_between(damaged, oids[0], oids[2])


def test_a_history_has_what_lies_on_both_sides(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30, 40)
    fork(repo, oids[1], "side")
    damaged = damage_packs(repo, oids[2])
    with pytest.raises(IntegrityError):
        History(damaged)
    history = History(damaged, on_damage="skip")
    assert set(history.entries) == {*oids, damaged.tips()["side"]} - {oids[2]}
    assert {each.branch: each.commits for each in history.summaries()} == {"main": 3, "side": 1}
    assert history.has("main", oids[0])


def test_a_tip_whose_content_is_damaged_is_passed_over(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30)
    pack, row = repo.store.catalogue.index.find(oids[2])[0]
    path = Path(repo.path, ".gradient-repo", pack.name)
    raw = bytearray(path.read_bytes())
    raw[row.offset + row.header_bytes + row.stored // 2] ^= 1  # the index tells of it as before
    path.chmod(0o644)
    path.write_bytes(raw)
    damaged = Repository.open(repo.path, workers=1)
    assert damaged.tip("main") == oids[2]
    history = History(damaged, on_damage="skip")
    assert history.tips == {"main": oids[1]}
    assert [each.tip for each in history.summaries()] == [oids[1]]
    assert [oid for oid, _ in newest_first(damaged, [oids[2]])] == [oids[1], oids[0]]


def test_an_order_goes_on_with_what_can_be_read(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 10, 20, 30, 40)
    damaged = damage_packs(repo, oids[2])
    assert parents(damaged, oids[3]) == (oids[1],)
    assert [oid for oid, _ in newest_first(damaged, [oids[3]])] == [oids[3], oids[1], oids[0]]
