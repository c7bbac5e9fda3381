"""The end of a process: each commit that `commit` returned is written, or its failure reported."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from gradient.engine.shutdown.progress_line import INTERVAL
from gradient.repo.repository import Repository
from tests.engine.background_runs import (
    commit_at_exit,
    end_held,
    end_slowly,
    end_with_a_log,
    fail_unseen,
    fork_often,
    live,
)
from tests.fork_server import LIMIT, Child, ForkServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDINGS = {
    "return": 0,
    "exit": 3,
    "exception": 1,
    "handled SIGTERM": 75,
    "SIGTERM": -signal.SIGTERM,
    "_exit": 4,
}
"""How a script ends, and the status that must come of it."""

WRITTEN = {"return", "exit", "exception", "handled SIGTERM"}
"""Endings after which everything is there."""

LIVES = 3
FORKS = 40


def line() -> list[int]:
    repo = Repository.open("work/run")
    assert set(repo.branches()) <= {"main"}
    return [commit.step for _, commit in repo.line("main")][::-1]


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_returned_is_there_or_the_last_tip_is(
    ending: str, server: ForkServer, times: int
) -> None:
    for number in range(LIVES * times):
        journal = Path(f"journal{number}").absolute()
        folder = Path(f"life{number}")
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            server.run(live, ending, journal, status=ENDINGS[ending])
            returned = [int(text) for text in journal.read_text().split()]
            assert returned == [1, 2, 3]
            assert line() == returned[: len(line())]
            if ending in WRITTEN:
                assert line() == returned


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)


SHOWN = {"return": 0, "close": 0, "dropped": 0, "exception": 1, "preempted": 75}
"""How a script ends while a terminal looks on."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal that a test looks at."""

    seen: IO[bytes]
    """What was shown."""
    name: str
    """Where to write."""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """Make a terminal; its own end stays open, so that what was written is there to be read."""
    seen, screen = os.openpty()
    os.set_blocking(seen, False)
    with os.fdopen(seen, "rb", buffering=0) as master, os.fdopen(screen, "wb", buffering=0):
        yield Terminal(master, os.ttyname(screen))


@pytest.mark.parametrize("ending", SHOWN)
def test_a_terminal_shows_that_a_process_is_still_writing(
    ending: str, server: ForkServer, terminal: Terminal
) -> None:
    server.run(end_slowly, ending, terminal.name, status=SHOWN[ending])
    drawn = terminal.seen.read(1 << 16).decode().split("\r")
    shown = [text.strip() for text in drawn if text.startswith("gradient: ")]
    assert re.fullmatch(r"gradient: 2 commits are still being written, \d+ s", shown[0])
    assert re.fullmatch(r"gradient: the last commits took \d+ s", shown[-1])
    assert line() == ([1, 2, 3, 4] if ending == "preempted" else [1, 2, 3])


def test_what_is_no_terminal_gets_no_line(server: ForkServer) -> None:
    assert "still being written" not in server.run(end_with_a_log, 1.5 * INTERVAL)
    assert line() == [1]


def test_a_terminal_that_is_gone_changes_nothing(server: ForkServer, terminal: Terminal) -> None:
    child = server.start(end_slowly, "gone", terminal.name)
    until(Path("showing").exists)
    terminal.seen.close()
    Path("showing").unlink()
    assert child.wait() == 0, child.output()
    assert line() == [1, 2, 3]


def held(server: ForkServer, ending: str = "return") -> Child:
    """Start a process that has ended but for two commits, which are held."""
    child = server.start(end_held, ending)
    until(Path("ended").exists)
    return child


ASKED = "2 commits are still being written; Ctrl-C once more ends the process without them"


@pytest.mark.parametrize(("ending", "status"), [("return", 0), ("Ctrl-C", -signal.SIGINT)])
def test_one_interrupt_does_not_cut_commits_off(
    ending: str, status: int, server: ForkServer
) -> None:
    child = held(server, ending)
    os.kill(child.pid, signal.SIGINT)
    until(lambda: ASKED in child.output())
    Path("go").touch()
    assert child.wait() == status, child.output()
    assert line() == [1, 2, 3]


def test_a_second_one_does_at_once(server: ForkServer) -> None:
    child = held(server)
    os.kill(child.pid, signal.SIGINT)
    until(lambda: ASKED in child.output())
    os.kill(child.pid, signal.SIGINT)
    assert child.wait() == -signal.SIGINT
    assert line() == [1]


def test_nor_does_a_handler_that_ends_the_script_once_more(server: ForkServer) -> None:
    child = held(server)
    for _ in range(3):
        os.kill(child.pid, signal.SIGTERM)
        time.sleep(0.01)
    Path("go").touch()
    assert child.wait() == 0, child.output()
    assert line() == [1, 2, 3]


def test_an_exit_handlers_commits_are_written(server: ForkServer) -> None:
    server.run(commit_at_exit)
    assert line() == [1, 2, 3]


@pytest.mark.parametrize("number", [0, 5, 10, 15])
def test_a_failure_that_nobody_was_told_of_is_the_exit_status(
    number: int, server: ForkServer
) -> None:
    server.run(fail_unseen, number, "nobody", status=1)
    assert Path("handler").exists(), "other exit handlers had their turn"
    assert line() == [1]


def test_a_failure_that_somebody_was_told_of_is_not(server: ForkServer) -> None:
    server.run(fail_unseen, 0, "by the handle", status=0)


def test_forked_children_have_no_part_in_it(server: ForkServer, times: int) -> None:
    for number in range(times):
        folder = Path(f"life{number}")
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            server.run(fork_often, FORKS)
            assert line() == list(range(1, FORKS + 1))
            repo = Repository.open("work/run")
            assert len(list(repo.store.commits())) == FORKS
