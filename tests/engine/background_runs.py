"""Background commits that a test can stop, and lives of a process for the tests to end."""

from __future__ import annotations

import atexit
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradient import EngineClosedError, GradientEngine
from gradient.engine.commit.commit_handle import Revision
from gradient.engine.shutdown import progress_line
from gradient.storage import fs
from tests.engine.training_rig import Rig, config, network
from tests.storage.faults import Fault, observed

LIMIT = 20.0
"""Seconds after which a wait counts as hung."""


def started(width: int = 6, **settings: Any) -> tuple[Rig, GradientEngine]:
    """Make a run that commits in the background."""
    rig = Rig(network(width))
    return rig, rig.attach(config=config(background=True, **settings))


class Gate:
    """Lets no call to the file system pass until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, call: fs.Call) -> None:
        assert self._open.wait(LIMIT)

    def open(self) -> None:
        self._open.set()


@contextmanager
def gate() -> Iterator[Gate]:
    """Hold what is written behind the loop until the gate is opened, or the block ends."""
    made = Gate()
    with observed(made):
        try:
            yield made
        finally:
            made.open()


def settle(revision: Revision) -> None:
    """Wait until a commit has ended, without hearing how."""
    deadline = time.monotonic() + LIMIT
    while not revision.done:
        assert time.monotonic() < deadline
        time.sleep(0.0005)


# What processes do. Calls of the file system are slow, so that commits are unfinished at the end.


def dawdle(_: fs.Call) -> None:
    time.sleep(0.001)


def live(ending: str, journal: Path) -> None:
    """Commit three steps, note each handle that was returned, and end in the middle of it."""
    rig, engine = started(max_pending=3)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if ending == "handled SIGTERM":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    fs.calls.observer = dawdle
    for step in (1, 2, 3):
        rig.step()
        engine.commit(step)
        with journal.open("a", encoding="utf-8") as file:
            file.write(f"{step}\n")
    if ending == "exit":
        sys.exit(3)
    if ending == "exception":
        raise RuntimeError("the script ends")
    if ending.endswith("SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LIMIT)
    if ending == "_exit":
        os._exit(4)


def end_slowly(ending: str, terminal: str) -> None:
    """End with two commits unfinished, which end when the terminal has shown it.

    One that is to be gone by then has time until a file goes.
    """
    screen = os.open(terminal, os.O_WRONLY | os.O_NOCTTY)
    os.dup2(screen, 2)
    _, engine = started(max_pending=3)
    engine.handle_preemption()
    engine.commit(1).wait()
    shown = threading.Event()
    draw = progress_line.ProgressLine._draw

    def noting(line: progress_line.ProgressLine, text: str, end: str = "") -> None:
        if ending == "gone" and not shown.is_set():
            Path("showing").touch()
            while Path("showing").exists():
                time.sleep(0.001)
        draw(line, text, end)
        shown.set()

    progress_line.ProgressLine._draw = noting  # type: ignore[method-assign]
    fs.calls.observer = lambda _: None if shown.wait(LIMIT) else os._exit(9)
    engine.commit(2)
    engine.commit(3)
    if ending == "close":
        engine.close()
    if ending == "dropped":
        del engine
    if ending == "preempted":
        signal.raise_signal(signal.SIGTERM)
        engine.maybe_commit(4)
    if ending == "exception":
        raise RuntimeError("the script ends")


def end_held(ending: str) -> None:
    """End with two commits unfinished, which go on when the file `go` is there.

    `ended` is there as soon as the process waits for them.
    """
    _, engine = started(max_pending=3)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    engine.commit(1).wait()

    def hold(_: fs.Call) -> None:
        while not Path("go").exists():
            if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
                Path("ended").touch()
            time.sleep(0.001)

    fs.calls.observer = hold
    engine.commit(2)
    engine.commit(3)
    if ending == "Ctrl-C":
        raise KeyboardInterrupt


def end_with_a_log(seconds: float) -> None:
    """End with a commit unfinished for some time."""
    _, engine = started()
    fs.calls.observer = lambda call: time.sleep(seconds) if call.operation == "sync" else None
    engine.commit(1)


def commit_at_exit() -> None:
    """Commit when the interpreter waits for no thread any more."""
    rig, engine = started(width=100)
    fs.calls.observer = dawdle
    engine.commit(1)

    def late() -> None:
        rig.step()
        engine.commit(2)
        rig.step()
        engine.commit(3)

    atexit.register(late)


def fail_unseen(number: int, told: str) -> None:
    """Commit onto a disk that fails from one call on, and end with nobody or somebody told."""
    atexit.register(Path("handler").touch)
    rig, engine = started()
    rig.train(engine, 1)
    engine.flush()
    fault = Fault(number, errno.ENOSPC, persistent=True)
    rig.step()
    with observed(fault):
        revision = engine.commit(2)
        settle(revision)
    assert fault.hits
    if told == "by the handle":
        try:
            revision.wait()
        except OSError:
            return
        raise AssertionError


def fork_often(times: int) -> None:
    """Fork in the middle of commits; the children try what they must not."""
    rig, engine = started(max_pending=2)
    fs.calls.observer = dawdle
    for step in range(1, times + 1):
        rig.step()
        revision = engine.commit(step)
        if (pid := os.fork()) == 0:
            for forbidden in (lambda: engine.commit(99), engine.flush, revision.wait):
                try:
                    forbidden()
                except EngineClosedError:
                    continue
                if not revision.done:
                    os._exit(9)
            engine.close()
            if step % 8:
                os._exit(7)  # as a data loader's worker ends
            sys.exit(7)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
    engine.close()
