"""SIGKILL at any moment: acknowledged commits are intact, and the next process just goes on."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

import gradient
from gradient.repo.repository import Repository
from tests.crash.trainer import Rig, commit_steps
from tests.parity.drive import Journal
from tests.processes import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 50
"""Per round; four rounds make two hundred."""
COMMITS = 8
"""What a life would commit if it were left alone."""
ROUNDS = [(1, "auto"), (2, "thin"), (3, "off"), (4, "off")]


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
    repo = Repository.open("work/run")
    assert repo.branches() == ["main"], "a life did not go on where the last one ended"
    line = {commit.step: str(oid) for oid, commit in repo.line("main")}
    steps = sorted(line)
    assert steps == list(range(1, len(steps) + 1))
    acknowledged = {entry["step"]: entry["id"] for entry in journal.read("acknowledged")}
    assert {step: line.get(step) for step in acknowledged} == acknowledged
    assert set(steps) <= {entry["step"] for entry in journal.read("attempted")}
    assert len(steps) - max(acknowledged, default=0) <= 1
    return steps


@pytest.mark.parametrize(("seed", "view"), ROUNDS)
def test_killed_at_random_moments(seed: int, view: str, server: ForkServer) -> None:
    moments = random.Random(seed)
    journal = Journal(Path("journal").absolute())
    journal.path.touch()

    began = time.monotonic()
    server.run(commit_steps, journal.path, COMMITS, view)
    life = time.monotonic() - began

    killed = 0
    for number in range(KILLS):
        child = server.start(commit_steps, journal.path, COMMITS, view)
        wait_for(journal, "ready", number + 2)
        time.sleep(moments.uniform(0, life))
        child.kill()
        status = child.wait()
        assert status in (0, -signal.SIGKILL), child.output()
        killed += status != 0
        check_history(journal)
    server.run(commit_steps, journal.path, 1, view)

    assert killed > KILLS // 3
    for step in check_history(journal):
        check_commit(f"main@{step}", step)


def check_commit(revision: str, step: int) -> None:
    """Compare a commit's model and optimizer with what they were, to the last bit."""
    rig = Rig()
    rig.fill(step)
    state = gradient.load(revision)
    model: dict[str, torch.Tensor] = state["model"]
    assert list(model) == list(rig.model.state_dict())
    for name, tensor in rig.model.state_dict().items():
        assert torch.equal(model[name], tensor), name
    for name, parameter in rig.model.named_parameters():
        for key, value in rig.optimizer.state[parameter].items():
            assert torch.equal(state["optimizer"]["state"][name][key], value), (name, key)
