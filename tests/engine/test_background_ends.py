"""However a process ends: what `commit` returned is committed, or somebody is told."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradient.repo.repository import Repository
from tests.engine.behind import fail_unseen, fork_often, live
from tests.processes import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Fork from a process that has the engine loaded."""
    modules = ("gradient.engine.engine", "tests.engine.behind")
    server = ForkServer(tmp_path_factory.mktemp("lives"), preload=modules)
    yield server
    server.close()


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
