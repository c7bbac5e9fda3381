from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fork_server import ForkServer


def train(end: str) -> None:
    import torch

    from gradient import GradientEngine

    sys.orig_argv = ["python", "train.py"]
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = GradientEngine.attach(model, optimizer, workspace="runs", repo="gpt")
    engine.commit(7)
    # As the interpreter does before it says goodbye.
    sys.last_value = RuntimeError("boom") if end == "exception" else None
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


WORDS = "to go on: gradient resume main@7 -- python train.py"


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [("exception", 0, True), ("return", 0, False), ("kill", -signal.SIGKILL, False)],
)
def test_a_process_that_an_exception_ends_says_how_to_go_on(
    end: str, status: int, said: bool, fork_server: ForkServer
) -> None:
    output = fork_server.run(train, end, status=status)
    assert (WORDS in output) == said


def train_beside_another(committing: bool) -> None:
    import torch

    from gradient import GradientConfig, GradientEngine
    from gradient.objects import timestamp
    from gradient.repo import last_run
    from gradient.repo.last_run import LastRun

    sys.orig_argv = ["python", "train.py", "one"]
    engines = []
    for branch in ("one", "two"):
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        config = GradientConfig(workspace_path="runs", repo_name="gpt", branch=branch)
        engines.append(GradientEngine.attach(model, optimizer, config=config))
    other, mine = engines
    if committing:
        mine.commit(3)
    # As another process that is launched and goes on in the same repo.
    other_run = LastRun("python train.py two", str(Path.cwd()), timestamp.now(), "fork main@1 two")
    last_run.record(mine.repo_path, other_run)
    other.commit(8)
    sys.last_value = RuntimeError("boom")


def test_the_way_to_go_on_is_that_of_the_own_branch(fork_server: ForkServer) -> None:
    output = fork_server.run(train_beside_another, True)
    assert "to go on: gradient resume two@3 -- python train.py one" in output
    assert "two@8" not in output
    output = fork_server.run(train_beside_another, False)
    assert "python train.py one" in output


def interrupt_twice() -> None:
    from gradient.engine.shutdown import crash_hint
    from gradient.repo import resume_command

    find = resume_command.find

    def slow(*arguments: object, **named: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.05)  # the interpreter looks for signals
        return find(*arguments, **named)  # type: ignore[arg-type]

    train("exception")
    crash_hint.resume_command.find = slow  # type: ignore[assignment]


def test_a_second_interrupt_does_not_cut_the_words_off(fork_server: ForkServer) -> None:
    assert WORDS in fork_server.run(interrupt_twice)
