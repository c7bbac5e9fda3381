"""Two engines on one branch, in one process and in two: every line linear, nothing lost."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from gradient import GradientConfig, GradientEngine, GradientIOError, UnknownRevisionError
from gradient.engine import restore, resume
from gradient.repo.repository import Repository
from tests.engine.training_rig import Rig, trained
from tests.fork_server import ForkServer


def lines() -> dict[str, list[int]]:
    """Return the steps of every branch, oldest first."""
    repo = Repository.open("work/run")
    return {b: [c.step for _, c in repo.line(b)][::-1] for b in repo.branches()}


def resumed(ref: str = "main") -> tuple[Rig, GradientEngine]:
    rig = Rig()
    return rig, rig.attach(resume=ref)


def test_none_the_branch_starts() -> None:
    trained(5, 6)
    assert lines() == {"main": [5, 6]}


def test_the_tip_moves_on() -> None:
    trained(1)
    rig, engine = resumed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rig.train(engine, 2)
    assert lines() == {"main": [1, 2]}


def test_a_rewind_sets_the_old_tip_aside_once() -> None:
    trained(1, 2, 3)
    rig, engine = resumed("main@1")
    with pytest.warns(UserWarning, match=r"set aside as 'main\.old1'"):
        rig.train(engine, 2)
    rig.train(engine, 3)
    assert lines() == {"main": [1, 2, 3], "main.old1": [1, 2, 3]}
    engine.resume("main@1")
    with pytest.warns(UserWarning, match=r"main\.old2"):
        rig.train(engine, 9)
    assert lines() == {"main": [1, 9], "main.old1": [1, 2, 3], "main.old2": [1, 2, 3]}
    with pytest.raises(UnknownRevisionError, match=r"main\.old[12]@3"):
        engine.resume("main@3")


@pytest.mark.parametrize("background", [False, True])
def test_a_repo_that_is_gone_is_not_begun_anew(background: bool) -> None:
    trained(1)
    rig = Rig()
    engine = rig.attach(resume="main", config=GradientConfig(background=background))
    Path("work").rename("moved")

    def commit() -> None:
        rig.train(engine, 2)
        engine.flush()

    with pytest.raises(GradientIOError, match="it is gone: moved, deleted"):
        commit()
    assert not Path("work").exists()
    Path("moved").rename("work")
    rig.train(engine, 3)
    engine.close()
    assert lines() == {"main": [1, 3]}


def test_a_fresh_run_on_history_sets_it_aside() -> None:
    _, engine = trained(1, 2)
    engine.close()
    rig = Rig()
    with pytest.warns(UserWarning, match="has history"):
        engine = rig.attach()
    with pytest.warns(UserWarning, match="set aside"):
        rig.train(engine, 0)
    rig.train(engine, 1)
    assert lines() == {"main": [0, 1], "main.old1": [1, 2]}


def test_another_writer_diverts_this_one_once() -> None:
    trained(1)
    one, first = resumed()
    two, second = resumed()
    one.train(first, 2)
    with pytest.warns(UserWarning, match=r"another writer.*main\.run2"):
        two.train(second, 2)
    one.train(first, 3)
    two.train(second, 3)
    assert lines() == {"main": [1, 2, 3], "main.run2": [1, 2, 3]}
    assert (first.branch, second.branch) == ("main", "main.run2")
    assert second.resume("latest") == 3
    assert second.branch == "main.run2"


def test_two_fresh_runs_on_an_empty_branch() -> None:
    one, two = Rig(), Rig()
    first, second = one.attach(), two.attach()
    one.train(first, 1)
    with pytest.warns(UserWarning, match="another writer"):
        two.train(second, 1)
    assert lines() == {"main": [1], "main.run2": [1]}


def test_a_rewind_while_another_writes_displaces_nobody() -> None:
    trained(1, 2)
    one, first = resumed("main@1")
    two, second = resumed()
    two.train(second, 3)
    with pytest.warns(UserWarning, match="another writer"):
        one.train(first, 5)
    assert lines() == {"main": [1, 2, 3], "main.run2": [1, 5]}


def test_a_commit_during_a_resume_is_another_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    trained(1, 2)
    one, first = resumed()
    two, second = resumed()
    original = restore.restore_run

    def slow(*arguments: object, **options: object) -> object:
        done = original(*arguments, **options)  # type: ignore[arg-type]
        one.train(first, 3)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(resume, "restore_run", slow)
        second.resume("main@1")
    with pytest.warns(UserWarning, match="another writer"):
        two.train(second, 5)
    assert lines() == {"main": [1, 2, 3], "main.run2": [1, 5]}


def test_a_tip_that_came_between_looking_and_resolving_is_not_lost() -> None:
    trained(1)
    one, first = resumed()
    two, second = resumed()
    one.train(first, 2)
    second.resume("main")
    assert second.current_step == 2
    two.train(second, 3)
    assert lines() == {"main": [1, 2, 3]}


def write(ref: str, count: int) -> None:
    """Be a second process: resume and commit."""
    rig = Rig()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = rig.attach(resume=ref)
        for _ in range(count):
            rig.train(engine, engine.current_step + 1)
    engine.close()


def test_two_processes_on_one_branch(fork_server: ForkServer) -> None:
    rig, engine = trained(1)
    fork_server.run(write, "main", 2)
    with pytest.warns(UserWarning, match="another writer"):
        rig.train(engine, 2)
    child = fork_server.start(write, "main", 4)
    rig.train(engine, 3, 4)
    assert child.wait() == 0, child.output()
    found = lines()
    assert found.pop("main.run2") == [1, 2, 3, 4]
    assert found == {"main": [1, 2, 3, 4, 5, 6, 7]}


def test_many_processes_end_as_lines_that_are_each_linear(fork_server: ForkServer) -> None:
    rigs = [Rig() for _ in range(3)]
    trained(1)
    engines = [rig.attach(resume="main") for rig in rigs]
    child = fork_server.start(write, "main", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in (2, 3, 4):
            for rig, engine in zip(rigs, engines, strict=True):
                rig.train(engine, step)
    assert child.wait() == 0, child.output()
    repo = Repository.open("work/run")
    # Each commit once: where the child came late, its line begins with commits of another one.
    made = {oid for branch in repo.branches() for oid, _ in repo.line(branch)}
    assert len(made) == 1 + 3 * 3 + 3
    found = lines()
    for steps in found.values():
        assert steps == sorted(steps)
        assert steps[0] == 1
