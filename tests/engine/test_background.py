"""Commits behind the loop: what is in them, when they are there, and how they fail."""

from __future__ import annotations

import errno
import gc
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradient import (
    ConfigError,
    EngineClosedError,
    GradientConfig,
    GradientEngine,
    GradientIOError,
    MissingObjectError,
    PendingError,
    StepError,
    UnsupportedValueError,
    load,
)
from gradient.checkpoint.draft import Draft
from gradient.checkpoint.reader import read_state
from gradient.checkpoint.snapshots import Snapshot
from gradient.engine.commit.commit_handle import Revision
from gradient.maintenance.garbage_collection import collect
from gradient.repo.active_writers import unfinished
from gradient.repo.repository import Repository
from gradient.state.snapshot import snapshot
from tests.engine.background_runs import LIMIT, gate, settle, started
from tests.engine.training_rig import Rig, assert_same, config, network
from tests.storage.faults import Fault, observed

TRIALS = 150


def stored(repo: Repository, revision: str) -> dict[str, Any]:
    return read_state(repo.store, repo.resolve(revision).commit.tree)


def test_another_process_sees_that_a_commit_is_being_written() -> None:
    rig, engine = started()
    rig.train(engine, 1)
    engine.flush()
    reached, go = threading.Event(), threading.Event()

    def hold(call: Any) -> None:
        if call.operation == "sync" and threading.current_thread().name == "gradient-commits":
            reached.set()
            assert go.wait(LIMIT)

    with observed(hold):
        engine.commit(2)
        assert reached.wait(LIMIT)
        [found] = unfinished(Repository.open("work/run"))
        assert (found.branch, found.state, found.process) == ("main", "writing", os.getpid())
        go.set()
        engine.flush()
    assert unfinished(Repository.open("work/run")) == []


# -- What is in them ------------------------------------------------------------------------------


class Extra:
    """State of every kind that a loop changes in place."""

    def __init__(self) -> None:
        self.shared = torch.zeros(300).share_memory_()
        self.array = np.zeros(100)
        self.log = bytearray(400)
        self.plain: dict[str, Any] = {"seen": [0], "small": torch.zeros(2), "set": {0}}
        self.strided = torch.zeros(40, 40)[:, ::2]

    def state_dict(self) -> dict[str, Any]:
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError

    def change(self, by: int) -> None:
        self.shared.add_(by)
        self.array += by
        self.log[by % 400] ^= 1
        self.plain["seen"].append(by)
        self.plain["small"].add_(by)
        self.plain["set"].add(by)
        self.strided.add_(by)


def test_a_commit_is_the_state_at_the_call(times: int) -> None:
    rig, engine = started(width=100)
    extra = Extra()
    engine.register_state("extra", extra)
    rig.step()
    expected: dict[int, Any] = {}
    for step in range(1, TRIALS * times + 1):
        engine.flush()
        expected[step] = snapshot(rig.state() | {"extra": dict(vars(extra))})
        with gate():
            engine.commit(step)
            # Nothing was read behind the loop yet, and now every bit is another one.
            for tensor in rig.model.state_dict().values():
                tensor.data.add_(1)
            for state in rig.optimizer.state.values():
                for tensor in state.values():
                    tensor.add_(1)
            rig.scheduler.step()
            torch.rand(1)
            extra.change(step)
    engine.flush()
    repo = Repository.open("work/run")
    for step, state in expected.items():
        found = stored(repo, f"main@{step}")
        assert_same({name: found[name] for name in state}, state)


def test_commits_equal_those_of_the_foreground() -> None:
    def run(name: str, *, background: bool) -> list[tuple[Any, ...]]:
        torch.manual_seed(1)
        rig = Rig(network(600))
        for parameter in rig.model[3].parameters():
            parameter.requires_grad_(False)
        settings = config(repo_name=name, background=background, reanchor_interval=3)
        with rig.attach(config=settings) as engine:
            rig.step()
            for step in range(1, 9):
                with torch.no_grad():
                    rig.model[0].weight[step] += 1e-4
                engine.log(loss=step / 3)
                engine.commit(step, f"step {step}")
        repo = Repository.open(f"work/{name}")
        line = [commit for _, commit in repo.line("main")]
        return [(c.step, c.tree, c.type, c.message, c.metrics, len(c.parents)) for c in line]

    assert run("behind", background=True) == run("before", background=False)


def test_views_are_written_behind_the_loop() -> None:
    rig, engine = started(view="full")
    rig.step()
    revision = engine.commit(1)
    assert revision.path is not None
    assert_same(load(revision.path)["model"], dict(rig.model.state_dict()))
    assert revision.type == "anchor"
    assert str(Repository.open("work/run").tip("main")) == revision.id


def test_what_cannot_be_stored_is_refused_at_once() -> None:
    _, engine = started()
    engine.register_state("bad", getter=lambda: object(), setter=print)
    with pytest.raises(UnsupportedValueError, match="bad"):
        engine.commit(1)
    assert engine.current_step == 0


# -- When they are there --------------------------------------------------------------------------


def test_commit_returns_before_the_commit_is_there() -> None:
    rig, engine = started()
    with gate():
        revision = engine.commit(1)
        assert revision == "main@1"
        assert not revision.done
        assert engine.current_step == 1
        with pytest.raises(PendingError, match="main@1 is not written yet"):
            revision.wait(0.001)
        with pytest.raises(PendingError, match="1 commits are not written yet"):
            engine.flush(0.001)
    assert revision.wait() is revision
    assert load(revision)["step"] == 1
    rig.train(engine, 2)
    assert engine.resume_latest() == 2


@pytest.mark.parametrize("most", [1, 2, 3])
def test_at_most_so_many_are_unfinished(most: int) -> None:
    _, engine = started(max_pending=most)
    with gate() as held:
        revisions = [engine.commit(step) for step in range(most)]
        assert not any(revision.done for revision in revisions)
        timer = threading.Timer(0.05, held.open)
        timer.start()
        revisions.append(engine.commit(most))  # waits until the gate is opened
        assert revisions[0].done
        timer.join()
    engine.flush()
    snapshots = engine._session.background.snapshots  # type: ignore[union-attr]
    assert len(snapshots._free) <= most


def test_steps_are_checked_against_what_was_submitted() -> None:
    _, engine = started()
    with gate():
        engine.commit(5)
        with pytest.raises(StepError, match="step 4 is below 5"):
            engine.commit(4)


def test_resume_and_fork_wait_for_what_is_unfinished() -> None:
    rig, engine = started(max_pending=3)
    for step in (1, 2, 3):
        rig.step()
        state = rig.state()
        revision = engine.commit(step)
    rig.step()
    assert engine.resume(revision) == 3
    assert_same(rig.state(), state)
    forked = engine.fork(from_ref="main@2", new_branch="b")
    assert forked.branch == "b"
    assert engine.commit(3).branch == "b"


def test_after_a_resume_only_what_changed_is_copied() -> None:
    rig, engine = started(width=6000)
    rig.train(engine, 1)
    engine.close()
    engine = rig.attach(config=config(background=True), resume="main@1")
    with torch.no_grad():
        rig.model[3].weight.add_(1)
    engine.commit(2).wait()
    (buffer,) = engine._session.background.snapshots._free  # type: ignore[union-attr]
    assert rig.model[3].weight.nbytes <= buffer.nbytes < 2 * rig.model[3].weight.nbytes


def test_another_writer_is_told_of_at_the_next_call() -> None:
    rig, engine = started()
    rig.train(engine, 1)
    engine.flush()
    other = Rig().attach(resume="main")
    other.commit(2)
    revision = engine.commit(2)
    settle(revision)
    assert revision.branch == "main.run2"
    with pytest.warns(UserWarning, match=r"another writer.*main\.run2"):
        engine.flush()
    assert engine.resume(revision) == 2
    assert engine.branch == "main.run2"


def test_a_second_attach_goes_on_whether_the_first_was_closed_or_dropped() -> None:
    rig, engine = started()
    rig.train(engine, 1)
    again = rig.attach(config=config(background=True))
    assert again.current_step == 1
    rig.train(again, 2)
    del again
    gc.collect()
    third = rig.attach()
    assert third.current_step == 2
    rig.train(third, 3)
    assert [c.step for _, c in Repository.open("work/run").line("main")] == [3, 2, 1]
    with pytest.raises(EngineClosedError):
        engine.commit(4)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_BACKGROUND", "1")
    engine = Rig().attach()
    with gate():
        assert not engine.commit(1).done
    monkeypatch.setenv("GRADIENT_BACKGROUND", "0")
    assert Rig().attach("b", config=config(background=True, branch="b")).commit(1).done
    monkeypatch.setenv("GRADIENT_BACKGROUND", "yes")
    with pytest.raises(ConfigError, match="GRADIENT_BACKGROUND='yes' is not 0 or 1"):
        Rig().attach()


@pytest.mark.parametrize(
    "settings", [{"background": 1}, {"max_pending": 0}, {"max_pending": True}, {"workers": 0}]
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} is"):
        GradientConfig(**settings)


# -- How they fail --------------------------------------------------------------------------------

TOLD: dict[str, Callable[[GradientEngine, Revision], object]] = {
    "handle": lambda engine, revision: revision.wait(),
    "facts": lambda engine, revision: revision.id,
    "commit": lambda engine, revision: engine.commit(revision.step + 1),
    "maybe_commit": lambda engine, revision: engine.maybe_commit(revision.step + 1),
    "flush": lambda engine, revision: engine.flush(),
    "resume": lambda engine, revision: engine.resume_latest(),
    "close": lambda engine, revision: engine.close(),
}

OFTEN = {"handle", "commit", "flush", "close"}
"""Tried for every call; the others for one in seven."""


@pytest.mark.parametrize("told", TOLD)
def test_a_fault_at_any_call_is_told(told: str) -> None:
    rig, engine = started()
    rig.train(engine, 1)
    engine.flush()
    number = failures = 0
    step = 1
    while True:
        rig.step()
        fault = Fault(number, errno.ENOSPC, persistent=True)
        with observed(fault):
            revision = engine.commit(step + 1)
            settle(revision)
        if not fault.hits:
            break
        number += 1 if told in OFTEN else 7
        repo = Repository.open("work/run")
        tip = repo.resolve("main").commit
        if revision._future is not None and revision._future.error is None:
            # The view's own calls: the commit was acknowledged by then.
            assert tip.step == step + 1
            engine.flush()
            step += 1
            continue
        failures += 1
        with pytest.raises(GradientIOError, match="No space left") as caught:
            TOLD[told](engine, revision)
        behind = f"main@{step + 1} was written in the background when this happened"
        assert behind in caught.value.__notes__
        if told == "close":
            engine = rig.attach(config=config(background=True), resume="auto")
        # Told once is enough, and the next one is made on what is durable.
        rig.train(engine, step + 1)
        engine.flush()
        repo = Repository.open("work/run")
        steps = [commit.step for _, commit in repo.line("main")]
        assert steps == sorted(steps, reverse=True)
        assert repo.branches() == ["main"]
        step += 1
        with pytest.raises(GradientIOError):
            revision.wait()
    assert failures > (10 if told in OFTEN else 1)


@pytest.mark.parametrize("then", ["flush", "commit", "close"])
def test_an_interrupt_before_the_thread_is_there_stops_nothing(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C where the commit waits already, and nobody is there yet who writes it."""
    rig = Rig()
    engine = rig.attach(config=config(background=True))
    rig.train(engine, 1)
    engine.flush()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rig.train(engine, 2)
    if then == "flush":
        engine.flush()
    elif then == "commit":
        rig.train(engine, 3)
    engine.close()
    steps = [commit.step for _, commit in Repository.open("work/run").line("main")]
    assert steps == ([3, 2, 1] if then == "commit" else [2, 1])


def interrupted(_: threading.Thread) -> None:
    raise KeyboardInterrupt


class Interrupting(deque[Any]):
    """Ctrl-C comes when a commit was just queued."""

    def append(self, task: Any) -> None:
        super().append(task)
        raise KeyboardInterrupt


def test_an_interrupt_after_a_commit_was_queued_is_not_counted_wrong() -> None:
    rig = Rig()
    engine = rig.attach(config=config(background=True, max_pending=2))
    rig.train(engine, 1)
    engine.flush()
    behind = engine._session.background
    assert behind is not None
    tasks, behind._tasks = behind._tasks, Interrupting()
    with pytest.raises(KeyboardInterrupt):
        rig.train(engine, 2)
    tasks.extend(behind._tasks)
    behind._tasks = tasks
    with gate():
        rig.train(engine, 3)
        assert behind.unfinished == 2
        with pytest.raises(PendingError):
            engine.flush(0.0)
    engine.close()
    steps = [commit.step for _, commit in Repository.open("work/run").line("main")]
    assert steps == [3, 2, 1]


class Unreachable(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the service that alerts somebody is down")


def test_a_log_handler_that_fails_does_not_end_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig, engine = started(max_pending=2)
    rig.train(engine, 1)
    engine.flush()
    monkeypatch.setattr(logging.getLogger("gradient"), "handlers", [Unreachable(logging.ERROR)])
    with observed(Fault(0, errno.EIO, persistent=True)):
        failed = engine.commit(2)
        settle(failed)
    with pytest.raises(GradientIOError):
        engine.flush()
    rig.train(engine, 3)
    engine.close()
    steps = [commit.step for _, commit in Repository.open("work/run").line("main")]
    assert steps == [3, 1]


def test_a_failed_commit_is_no_parent() -> None:
    _, engine = started(max_pending=3)
    first = engine.commit(1).wait()
    both = threading.Event()
    attempts = 0

    def fail_once(call: Any) -> None:
        nonlocal attempts
        both.wait(LIMIT)
        if call.operation == "sync" and attempts == 0:
            attempts += 1
            raise OSError(errno.EIO, "broken")

    with observed(fail_once):
        second, third = engine.commit(2), engine.commit(3)
        both.set()
        settle(third)
    with pytest.raises(GradientIOError):
        second.wait()
    repo = Repository.open("work/run")
    (parent,) = repo.resolve("main").commit.parents
    assert (str(parent), third.wait().step) == (first.id, 3)
    engine.flush()


def test_what_was_collected_fails_one_commit_and_is_copied_for_the_next() -> None:
    frozen = torch.randn(1000)
    rig, engine = started()
    engine.register_state("frozen", lambda: {"w": frozen}, lambda _: None)
    rig.train(engine, 1)
    engine.flush()
    repo = Repository.open("work/run")
    repo.refs.delete("main", after=repo.refs.read("main"), reason="deleted")
    collect(repo, grace=0.0)
    with pytest.raises(MissingObjectError):
        engine.commit(2).wait()
    engine.commit(3).wait()
    assert torch.equal(stored(Repository.open("work/run"), "main@3")["frozen"]["w"], frozen)


def test_a_failure_takes_its_step_back() -> None:
    rig, engine = started()
    rig.train(engine, 1)
    engine.flush()
    engine.autocommit(1)
    with observed(Fault(0, errno.EIO, persistent=True)):
        revision = engine.maybe_commit(5)
        assert revision is not None
        settle(revision)
    with pytest.raises(GradientIOError):
        engine.maybe_commit(5)
    assert engine.current_step == 1
    assert engine.maybe_commit(5) is not None  # it was not made, so it is made now
    engine.flush()


def test_several_failures_are_one_error_with_notes() -> None:
    _, engine = started(max_pending=2)
    both = threading.Event()

    def fail(call: Any) -> None:
        both.wait(LIMIT)
        raise OSError(errno.EIO, "broken")

    with observed(fail):
        revisions = [engine.commit(1), engine.commit(2)]
        both.set()
        for revision in revisions:
            settle(revision)
    with pytest.raises(GradientIOError) as caught:
        engine.close()
    assert len(caught.value.__notes__) == 2
    engine.close()


def test_a_failed_commit_leaves_its_origin_to_the_next() -> None:
    rig, engine = started()
    rig.train(engine, 1)
    engine.resume("main@1", components=("model",))
    with observed(Fault(0, errno.EIO, persistent=True)):
        revision = engine.commit(2)
        settle(revision)
    with pytest.raises(GradientIOError):
        engine.flush()
    engine.commit(2).wait()
    assert Repository.open("work/run").resolve("main").commit.fork is not None


def test_a_failure_keeps_no_memory() -> None:
    rig, engine = started(width=600)
    rig.step()
    for number in (1, 10, 20, 30):
        with observed(Fault(number, errno.EIO, persistent=True)):
            revision = engine.commit(1)
            settle(revision)
        with pytest.raises(GradientIOError) as caught:
            engine.flush()
        gc.collect()
        live = gc.get_objects()
        assert not [each for each in live if type(each) is Snapshot and each.buffer is not None]
        assert not [each for each in live if type(each) is Draft and each.slots]
        assert caught.value is revision._future.error  # type: ignore[union-attr]
