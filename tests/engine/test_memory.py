"""A commit needs little memory in addition to the state."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from gradient import GradientEngine
from tests.engine.training_rig import config
from tests.fork_server import ForkServer

STATE = 200 << 20
EXTRA = 64 << 20


def commit_much() -> None:
    """Commit 200 MB and print by how much the peak grew."""
    torch.manual_seed(0)
    parts = [torch.nn.Linear(2048, 2560, bias=False) for _ in range(10)]
    model = torch.nn.Sequential(*parts)
    assert sum(p.nbytes for p in model.parameters()) >= STATE
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = GradientEngine.attach(model, optimizer, config=config())
    with torch.no_grad():
        small = torch.nn.Linear(512, 512)
    engine.register_state("small", small)
    before = peak()
    engine.commit(1)
    sys.stdout.write(f"{peak() - before}\n")


def commit_behind(most: int) -> None:
    """Commit changing states in the background and print by how much the peak grew."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(2048, 2560, bias=False) for _ in range(5)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = config(background=True, max_pending=most)
    engine = GradientEngine.attach(model, optimizer, config=settings)
    before = peak()
    for step in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-4)
        engine.commit(step)
    engine.close()
    sys.stdout.write(f"{peak() - before}\n")


def peak() -> int:
    """Return the largest resident size so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_a_commit_of_a_large_state_needs_little_more_memory(fork_server: ForkServer) -> None:
    grown = int(fork_server.run(commit_much).split()[-1])
    assert grown < EXTRA, f"{grown >> 20} MiB"


@pytest.mark.parametrize("most", [1, 2])
def test_in_the_background_a_copy_for_each_unfinished_commit(
    most: int, fork_server: ForkServer
) -> None:
    grown = int(fork_server.run(commit_behind, most).split()[-1])
    assert grown < EXTRA + 1.1 * most * STATE / 2, f"{grown >> 20} MiB"
