from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.processes import ForkServer


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
