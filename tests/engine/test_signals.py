"""A signal ends a run after its step: committed, and to go on as if it never had."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradient import ConfigError, GradientEngine, GradientIOError
from gradient.repo.repository import Repository
from gradient.state import dataloader_workers
from gradient.storage import fs
from tests.engine.background_runs import settle
from tests.engine.preempted_run import (
    FOR_EVER,
    LOOPS,
    be_two_ranks,
    fail_before_the_signal,
    keep_workers,
    train,
)
from tests.engine.training_rig import Rig, config
from tests.fork_server import LIMIT, ForkServer
from tests.parity.digest import digest
from tests.storage.faults import Fault, observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give each test the handlers of a fresh process, and see that it leaves them."""
    fresh = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGUSR1: signal.SIG_DFL,
        # A shell starts what runs in the background with Ctrl-C ignored, and tests as well.
        signal.SIGINT: signal.default_int_handler,
    }
    before = {number: signal.signal(number, handler) for number, handler in fresh.items()}
    yield
    after = {number: signal.getsignal(number) for number in fresh}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == fresh


def steps_in(folder: Path) -> list[int]:
    journal = folder / "steps"
    return [int(text) for text in journal.read_text().split()] if journal.exists() else []


def preempt(server: ForkServer, loop: str, *, after: int, delay: float) -> str:
    """Train for ever in a new process, and signal all of it at some moment after a step."""
    child = server.start(train, loop, FOR_EVER)
    deadline = time.monotonic() + LIMIT
    while not (done := steps_in(Path.cwd())) or done[-1] < after:
        assert time.monotonic() < deadline, child.output()
        time.sleep(0.001)
    time.sleep(delay)
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait() == 75, child.output()
    return child.output()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_goes_on_as_if_it_had_not_been_preempted(loop: str, server: ForkServer) -> None:
    if loop == "reading" and not dataloader_workers.CAN_IDENTIFY_SENDER:
        pytest.skip("this system does not tell who sent a signal")
    random_moment = random.Random(f"preempted {loop}")
    after = 0
    for _ in range(2):
        said = preempt(server, loop, after=after + 1, delay=random_moment.uniform(0, 0.03))
        last = steps_in(Path.cwd())[-1]
        assert re.findall(r"preempted by SIGTERM: the run ends after step (\d+)", said) == [
            str(last)
        ]
        assert Repository.open("work/run").resolve("main").commit.step == last
        after = last
    # Not a step twice, not one left out.
    assert steps_in(Path.cwd()) == list(range(1, after + 1))
    stop = after + 5
    server.run(train, loop, stop)
    undisturbed = Path("undisturbed")
    undisturbed.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(undisturbed)
        server.run(train, loop, stop)
    assert Path("end").read_text() == Path("undisturbed/end").read_text()
    here, there = (Repository.open(f"{folder}work/run") for folder in ("", "undisturbed/"))
    assert here.resolve(f"main@{stop}").commit.tree == there.resolve(f"main@{stop}").commit.tree


def signal_after_a_failure(server: ForkServer, *arguments: object, **options: object) -> str:
    """Signal a process once one of its commits has failed; returns what it says before its end."""
    child = server.start(partial(fail_before_the_signal, *arguments, **options))
    deadline = time.monotonic() + LIMIT
    while not Path("failed").exists():
        assert time.monotonic() < deadline, child.output()
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGTERM)
    status = child.wait()
    return f"{child.output()}\nexit status {status}"


@pytest.mark.parametrize("on_full", ["raise", "skip"])
@pytest.mark.parametrize("boundary", ["commit", "maybe_commit", "steps"])
def test_a_commit_that_failed_before_does_not_keep_the_last_from_being_made(
    boundary: str, on_full: str, server: ForkServer
) -> None:
    said = signal_after_a_failure(server, boundary, on_full, lasting=False)
    assert said.endswith("exit status 75"), said
    assert "Traceback" not in said
    assert said.count(f"main@2 was {'not written' if on_full == 'raise' else 'skipped'}: ") == 1
    assert committed() == [1, 2 if boundary == "steps" else 3]
    rig = Rig()
    with rig.attach(resume="latest"):
        found = digest(rig.model, rig.optimizer, rig.scheduler)
    assert found == Path("state").read_text()


@pytest.mark.parametrize("on_full", ["raise", "skip"])
def test_75_means_that_the_last_commit_is_there(on_full: str, server: ForkServer) -> None:
    said = signal_after_a_failure(server, "steps", on_full, lasting=True)
    assert said.endswith("exit status 1"), said
    assert "No space left on device" in said
    assert committed() == [1]


@pytest.mark.multirank
def test_all_ranks_end_after_the_same_step_and_the_first_commits(server: ForkServer) -> None:
    server.run(be_two_ranks, status=75)
    first, second = (int(Path(f"rank{rank}").read_text()) for rank in range(2))
    assert first == second
    assert first >= 3
    line = Repository.open("work/run").line("main")
    assert [commit.step for _, commit in line] == [first]


def test_workers_that_are_spared_end_with_their_parent(server: ForkServer) -> None:
    server.run(keep_workers, Path("journal").absolute())
    assert Path("journal").read_text() == "read"


def started(*signals: int, **settings: Any) -> tuple[Rig, GradientEngine]:
    rig = Rig()
    engine = rig.attach(config=config(**settings))
    engine.handle_preemption(*signals)
    return rig, engine


def committed() -> list[int]:
    return [commit.step for _, commit in Repository.open("work/run").line("main")][::-1]


def test_nothing_is_handled_unless_asked_for() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Rig().attach() as engine:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not engine.preempted


def commit(engine: GradientEngine, step: int) -> None:
    engine.commit(step)


def maybe_commit(engine: GradientEngine, step: int) -> None:
    engine.maybe_commit(step)


@pytest.mark.parametrize("boundary", [commit, maybe_commit])
@pytest.mark.parametrize("background", [False, True])
def test_a_boundary_commits_once_and_ends(
    boundary: Callable[[GradientEngine, int], None], background: bool
) -> None:
    rig, engine = started(background=background)
    with engine:
        rig.train(engine, 1)
        rig.step()
        signal.raise_signal(signal.SIGTERM)
        assert engine.preempted
        with pytest.raises(SystemExit) as end:
            boundary(engine, 2)
        assert end.value.code == 75
        assert committed() == [1, 2]


def test_a_step_that_was_committed_is_not_committed_again() -> None:
    rig, engine = started()
    with engine:
        for step in engine.steps(3):
            rig.train(engine, step)
            if step == 2:
                signal.raise_signal(signal.SIGTERM)
                break
        with pytest.raises(SystemExit):
            engine.maybe_commit(2)
    assert committed() == [1, 2]


def test_a_commit_that_fails_is_no_request_to_go_on() -> None:
    rig, engine = started()
    with engine:
        rig.train(engine, 1)
        signal.raise_signal(signal.SIGTERM)
        with observed(Fault(0, errno.ENOSPC, persistent=True)), pytest.raises(GradientIOError):
            engine.maybe_commit(2)
    assert committed() == [1]


def test_a_commit_in_the_background_that_failed_is_made_once_more() -> None:
    rig, engine = started(background=True)
    with engine:
        with pytest.raises(SystemExit):  # noqa: PT012 - the loop is what raises
            for step in engine.steps(3):
                rig.step()
                if step == 2:
                    with observed(Fault(0, errno.ENOSPC, persistent=True)):
                        settle(engine.commit(step, metrics={"loss": 0.5}))
                    signal.raise_signal(signal.SIGTERM)
        assert committed() == [2]
        assert Repository.open("work/run").resolve("main").commit.metrics == {"loss": 0.5}


def test_a_commit_that_fails_while_the_last_one_waits_for_it() -> None:
    rig, engine = started(background=True)
    with engine:
        rig.train(engine, 1)
        engine.flush()
        go = threading.Event()

        def fail(call: Any) -> None:
            assert go.wait(LIMIT)
            raise OSError(errno.EIO, "broken")

        with observed(fail):
            engine.commit(2)

            def heal() -> None:
                go.set()
                settle(failing)
                fs.calls.observer = None

            failing = engine._session.position.last
            assert failing is not None
            signal.raise_signal(signal.SIGTERM)
            healer = threading.Timer(0.05, heal)
            healer.start()
            with pytest.raises(SystemExit) as end:
                engine.commit(3)
            healer.join()
        assert end.value.code == 75
        assert committed() == [1, 3]


def test_a_handler_that_was_there_is_called_and_put_back() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
    mine = signal.getsignal(signal.SIGUSR1)
    _, engine = started(signal.SIGUSR1, signal.SIGTERM)
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    assert got == [signal.SIGUSR1] * 2
    engine.close()
    assert signal.getsignal(signal.SIGUSR1) is mine
    signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_came_later_stays_and_may_call_ours() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    _, engine = started(signal.SIGUSR1)
    ours = signal.getsignal(signal.SIGUSR1)
    assert callable(ours)

    def later(number: int, frame: Any) -> None:
        ours(number, frame)

    signal.signal(signal.SIGUSR1, later)
    engine.close()
    assert signal.getsignal(signal.SIGUSR1) is later
    signal.raise_signal(signal.SIGUSR1)  # ignored, as it was before
    assert not engine.preempted
    signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_is_noted_once_and_then_means_it() -> None:
    _, engine = started(signal.SIGINT)
    with engine:
        signal.raise_signal(signal.SIGINT)
        assert engine.preempted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGKILL, 0, 9999, True, "SIGTERM"])
def test_what_is_no_signal_to_handle(number: Any) -> None:
    with Rig().attach() as engine, pytest.raises(ConfigError, match="can be handled"):
        engine.handle_preemption(number)


def test_only_the_main_thread_handles_signals() -> None:
    said = []

    def ask() -> None:
        try:
            engine.handle_preemption()
        except ConfigError as error:
            said.append(str(error))

    with Rig().attach() as engine:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert said == [
        "handle_preemption: only the main thread can set signal handlers; call it there"
    ]
