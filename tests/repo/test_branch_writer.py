from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest

from gradient.errors import (
    BranchExistsError,
    GradientIOError,
    InvalidNameError,
    StepError,
)
from gradient.repo.branch_writer import BranchWriter, PublishOutcome
from gradient.repo.repository import Repository
from tests.repo.making import builder, commit, make_repo, run, steps

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = 4
COMMITS_EACH = 25


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


# The truth table ------------------------------------------------------------------------------


def test_no_tip_starts_the_branch(repo: Repository) -> None:
    done = commit(BranchWriter.open(repo, "main"), 0)

    assert (done.branch, done.outcome, done.warnings) == ("main", PublishOutcome.STARTED, ())
    assert repo.tip("main") == done.commit
    assert repo.read_commit(done.commit).parents == ()


def test_no_tip_but_a_position_starts_the_branch_there(repo: Repository) -> None:
    (source,) = run(repo, "main", 3)

    done = commit(BranchWriter.open(repo, "other").moved_to(source), 4)

    assert done.outcome is PublishOutcome.STARTED
    assert repo.read_commit(done.commit).parents == (source,)


def test_the_tip_moves_on(repo: Repository) -> None:
    run(repo, "main", 0, 10, 20)

    assert steps(repo, "main") == [0, 10, 20]
    assert repo.branches() == ["main"]


def test_a_resumed_tip_moves_on(repo: Repository) -> None:
    run(repo, "main", 0)
    run(repo, "main", 5)

    assert steps(repo, "main") == [0, 5]
    assert repo.branches() == ["main"]


def test_a_rewind_sets_the_old_tip_aside_once(repo: Repository) -> None:
    first, *_, old = run(repo, "main", 0, 10, 20)

    line = BranchWriter.open(repo, "main").moved_to(first)
    done = commit(line, 5)
    again = commit(line, 6)

    assert (done.outcome, done.other) == (PublishOutcome.SET_ASIDE, "main.old1")
    assert "main.old1" in done.warnings[0]
    assert again.outcome is PublishOutcome.ADVANCED
    assert repo.tip("main.old1") == old
    assert steps(repo, "main") == [0, 5, 6]
    assert repo.branches() == ["main", "main.old1"]


def test_a_second_rewind_takes_the_next_name(repo: Repository) -> None:
    first, *_ = run(repo, "main", 0, 10)
    commit(BranchWriter.open(repo, "main").moved_to(first), 5)

    done = commit(BranchWriter.open(repo, "main").moved_to(first), 7)

    assert done.other == "main.old2"
    assert steps(repo, "main.old2") == [0, 5]


def test_a_fresh_run_on_a_branch_with_history_sets_it_aside(repo: Repository) -> None:
    *_, old = run(repo, "main", 0, 10)

    done = commit(BranchWriter.open(repo, "main"), 0)

    assert (done.outcome, done.other) == (PublishOutcome.SET_ASIDE, "main.old1")
    assert repo.tip("main.old1") == old
    assert steps(repo, "main") == [0]


@pytest.mark.parametrize("resumed", [True, False])
def test_another_writer_makes_this_one_divert_once(repo: Repository, *, resumed: bool) -> None:
    start = run(repo, "main", 0)[0]
    late = BranchWriter.open(repo, "main").moved_to(start if resumed else None)
    run(repo, "main", 1)

    done = commit(late, 2)
    again = commit(late, 3)

    assert (done.branch, done.outcome, done.other) == ("main.run2", PublishOutcome.DIVERTED, "main")
    assert "main.run2" in done.warnings[0]
    assert (again.branch, again.outcome) == ("main.run2", PublishOutcome.ADVANCED)
    assert steps(repo, "main") == [0, 1]
    assert steps(repo, "main.run2") == ([0] if resumed else []) + [2, 3]
    assert repo.read_commit(done.commit).branch == "main.run2"
    assert late.branch == "main.run2"


def test_an_unborn_branch_that_another_writer_started(repo: Repository) -> None:
    late = BranchWriter.open(repo, "main")
    run(repo, "main", 0)

    assert commit(late, 0).branch == "main.run2"
    assert steps(repo, "main") == [0]


def test_a_diverted_run_that_meets_another_writer_takes_the_next_number(repo: Repository) -> None:
    late = BranchWriter.open(repo, "main")
    run(repo, "main", 0)
    commit(late, 0)
    run(repo, "main.run2", 1)

    assert commit(late, 2).branch == "main.run3"


def test_names_that_are_taken_are_passed_over(repo: Repository) -> None:
    first, _ = run(repo, "main", 0, 1)
    run(repo, "main.old1", 0)
    run(repo, "MAIN.run2", 0)
    late = BranchWriter.open(repo, "main").moved_to(first)

    assert commit(BranchWriter.open(repo, "main").moved_to(first), 2).other == "main.old2"
    assert commit(late, 1).branch == "main.run3"


def test_long_names_leave_room_for_the_number(repo: Repository) -> None:
    name = "b" * 200
    run(repo, name, 0)

    other = commit(BranchWriter.open(repo, name), 0).other

    assert other is not None
    assert other.endswith(".old1")
    assert len(other) == 200


def test_a_commit_made_while_this_writer_was_resuming_is_another_writers(
    repo: Repository,
) -> None:
    (first,) = run(repo, "main", 0)
    line = BranchWriter.open(repo, "main")
    run(repo, "main", 1)

    assert commit(line.moved_to(first), 2).branch == "main.run2"
    assert steps(repo, "main") == [0, 1]


# What happens in between ----------------------------------------------------------------------


def test_a_race_lost_while_the_commit_was_built_diverts(repo: Repository) -> None:
    late = BranchWriter.open(repo, "main")
    build = builder(repo, 5)
    built: list[str] = []

    def slow(branch: str, parent: Any) -> Any:
        if not built:
            run(repo, "main", 0)
        built.append(branch)
        return build(branch, parent)

    done = late.publish(5, slow)

    assert built == ["main", "main.run2"]
    assert done.branch == "main.run2"
    assert steps(repo, "main") == [0]


def test_killed_between_setting_aside_and_moving(repo: Repository) -> None:
    first, *_, old = run(repo, "main", 0, 10)

    def die(branch: str, parent: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BranchWriter.open(repo, "main").moved_to(first).publish(5, die)
    assert repo.tips() == {"main": old, "main.old1": old}

    done = commit(BranchWriter.open(repo, "main").moved_to(first), 5)

    assert done.other == "main.old1"
    assert repo.tips() == {"main": done.commit, "main.old1": old}


@pytest.mark.parametrize("diverts", [True, False])
def test_an_append_whose_answer_was_lost_is_our_own(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, *, diverts: bool
) -> None:
    line = BranchWriter.open(repo, "main")
    if diverts:
        run(repo, "main", 0)
    append = repo.refs.append

    def lossy(*arguments: Any, **options: Any) -> Any:
        append(*arguments, **options)
        raise GradientIOError("sync folder", "refs", OSError(5, "Input/output error"))

    monkeypatch.setattr(repo.refs, "append", lossy)
    with pytest.raises(GradientIOError):
        commit(line, 1)
    monkeypatch.undo()
    assert line.branch == "main"
    done = commit(line, 1)

    expected = "main.run2" if diverts else "main"
    assert done.branch == expected
    assert steps(repo, expected) == [1, 1]
    assert set(repo.branches()) == {"main", expected}


def test_a_build_that_fails_changes_nothing(repo: Repository) -> None:
    line = BranchWriter.open(repo, "main")

    def fail(branch: str, parent: Any) -> Any:
        raise GradientIOError("write", "pack", OSError(28, "No space left on device"))

    with pytest.raises(GradientIOError):
        line.publish(1, fail)

    assert repo.branches() == []
    assert commit(line, 1).outcome is PublishOutcome.STARTED


# Steps ----------------------------------------------------------------------------------------


def test_steps_never_go_down(repo: Repository) -> None:
    line = BranchWriter.open(repo, "main")
    commit(line, 10)

    with pytest.raises(StepError, match="step 9 is below 10"):
        commit(line, 9)

    assert steps(repo, "main") == [10]


def test_the_same_step_again_is_a_new_commit(repo: Repository) -> None:
    first, second = run(repo, "main", 10, 10)

    assert first != second
    assert steps(repo, "main") == [10, 10]


# New branches ---------------------------------------------------------------------------------


def test_a_new_branch_begins_at_its_source(repo: Repository) -> None:
    (source,) = run(repo, "main", 7)

    done = commit(BranchWriter.create(repo, "high_lr").moved_to(source), 7)

    assert repo.read_commit(done.commit).parents == (source,)
    assert steps(repo, "high_lr") == [7, 7]


def test_a_new_branch_must_not_exist(repo: Repository) -> None:
    run(repo, "main", 0)
    line = BranchWriter.create(repo, "other")
    run(repo, "other", 0)

    with pytest.raises(BranchExistsError, match=r'resume\("main"\)'):
        BranchWriter.create(repo, "main")
    with pytest.raises(InvalidNameError, match="differs from the existing 'main' only in case"):
        BranchWriter.create(repo, "Main")
    with pytest.raises(BranchExistsError):
        commit(line, 0)


def test_a_new_branch_that_appears_while_building(repo: Repository) -> None:
    line = BranchWriter.create(repo, "other")
    build = builder(repo, 0)

    def slow(branch: str, parent: Any) -> Any:
        run(repo, "other", 0)
        return build(branch, parent)

    with pytest.raises(BranchExistsError):
        line.publish(0, slow)


@pytest.mark.parametrize("name", ["latest", "HEAD", "auto", "a@b", "../x", "a" * 64, ""])
def test_names_that_no_branch_can_have(repo: Repository, name: str) -> None:
    with pytest.raises(InvalidNameError):
        BranchWriter.open(repo, name)


def test_reasons_are_kept(repo: Repository) -> None:
    line = BranchWriter.open(repo, "main")
    line.publish(0, builder(repo, 0), reason="handoff 1234")

    assert [record.reason for record in repo.refs.log("main")] == ["handoff 1234"]


# Several writers ------------------------------------------------------------------------------


def write(folder: Path, fresh: bool, barrier: Any, acknowledged: Any) -> None:
    repo = Repository.open(folder, workers=1)
    line = BranchWriter.open(repo, "main")
    if not fresh:
        line.moved_to(repo.tip("main"))
    barrier.wait()
    for step in range(10, 10 + COMMITS_EACH):
        acknowledged.send_bytes(bytes(commit(line, step).commit))
    acknowledged.close()


@pytest.mark.parametrize("fresh", [True, False])
def test_concurrent_writers_lose_nothing(tmp_path: Path, *, fresh: bool) -> None:
    repo = make_repo(tmp_path / "repo")
    run(repo, "main", 0)
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(WRITERS)]
    barrier = context.Barrier(WRITERS)
    children = [
        context.Process(target=write, args=(tmp_path / "repo", fresh, barrier, ours))
        for _, ours in pipes
    ]
    for child in children:
        child.start()
    acknowledged = []
    for theirs, ours in pipes:
        ours.close()
        mine = []
        while True:
            try:
                mine.append(theirs.recv_bytes())
            except EOFError:
                break
        acknowledged.append(mine)
    for child in children:
        child.join()
        assert child.exitcode == 0

    lines = {name: [bytes(oid) for oid, _ in repo.line(name)] for name in repo.branches()}
    assert all(len(mine) == COMMITS_EACH for mine in acknowledged)
    for mine in acknowledged:
        assert any(set(mine) <= set(line) for line in lines.values())
    for name in lines:
        assert steps(repo, name) == sorted(steps(repo, name))
    assert sum(name.startswith("main.run") for name in lines) == WRITERS - 1
