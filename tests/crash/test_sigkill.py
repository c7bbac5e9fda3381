"""SIGKILL at any moment: acknowledged commits are intact, and the next process just goes on."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import gradient
from gradient.errors import ContextError
from gradient.repo.repository import Repository
from tests.crash.trainer import Rig, commit_steps
from tests.parity.digest import pieces
from tests.parity.drive import Journal
from tests.processes import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 50
"""Per round; four rounds in the foreground make two hundred."""
COMMITS = 4
"""What a life would commit if it were left alone."""
ROUNDS = [
    (1, "auto", False),
    (2, "thin", False),
    (3, "off", False),
    (4, "off", False),
    (5, "thin", True),
]
"""Seed, view, and whether commits are written behind the loop."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Fork from a process that has the engine loaded: hundreds of lives start at once."""
    modules = ("gradient.engine.engine", "tests.crash.trainer")
    server = ForkServer(tmp_path_factory.mktemp("lives"), preload=modules)
    yield server
    server.close()


def wait_for(journal: Journal, event: str, count: int) -> None:
    """Wait until an event was written so often."""
    deadline = time.monotonic() + 60
    while len(journal.read(event)) < count:
        assert time.monotonic() < deadline, f"{event} was not written"
        time.sleep(0.001)


def check_history(journal: Journal) -> list[int]:
    """Compare what is on disk with what was attempted and acknowledged; return the steps."""
    acknowledged = {entry["step"]: entry["id"] for entry in journal.read("acknowledged")}
    try:
        repo = Repository.open("work/run")
    except ContextError:
        assert not acknowledged
        return []
    assert set(repo.branches()) <= {"main"}, "a life did not go on where the last one ended"
    line = {commit.step: str(oid) for oid, commit in repo.line("main")}
    steps = sorted(line)
    assert steps == list(range(1, len(steps) + 1))
    assert {step: line.get(step) for step in acknowledged} == acknowledged
    assert set(steps) <= {entry["step"] for entry in journal.read("attempted")}
    return steps


@pytest.mark.parametrize(("seed", "view", "background"), ROUNDS)
def test_killed_at_random_moments(
    seed: int, view: str, background: bool, server: ForkServer
) -> None:
    moments = random.Random(seed)
    journal = Journal(Path("journal").absolute())
    journal.path.touch()

    window, lives, killed = 0.1, 0, 0
    while killed < KILLS:
        child = server.start(commit_steps, journal.path, COMMITS, view, background)
        lives += 1
        wait_for(journal, "ready", lives)
        time.sleep(moments.uniform(0, window))
        child.kill()
        status = child.wait()
        assert status in (0, -signal.SIGKILL), child.output()
        killed += status != 0
        # Whatever the machine's speed: late enough to hit every moment, early enough to hit.
        window *= 1.1 if status else 0.7
        check_history(journal)
    server.run(commit_steps, journal.path, 1, view, background)

    for step in check_history(journal):
        check_commit(f"main@{step}", step)


def check_commit(revision: str, step: int) -> None:
    """Compare a commit's model and optimizer with what they were, to the last bit."""
    rig = Rig()
    rig.fill(step)
    state = gradient.load(revision)
    expected = [dict(rig.model.state_dict()), rig.optimizer.state_dict()]
    assert list(pieces([state["model"], state["optimizer"]])) == list(pieces(expected))
