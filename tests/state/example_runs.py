"""Small runs for the tests: a model with all kinds of state, and a step of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects
from gradient.state.restore import RestoreReport, prepare
from gradient.state.snapshot import snapshot
from tests.state.value_roundtrip import same, through


def network(dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    """Make a network with parameters, buffers, dropout."""
    layers = (
        torch.nn.Linear(4, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(8, 2),
    )
    return torch.nn.Sequential(*layers).to(dtype)


def make(
    optimizer: Callable[..., Any] = torch.optim.AdamW,
    scheduler: Callable[..., Any] | None = None,
    model: torch.nn.Module | None = None,
    **options: Any,
) -> LiveObjects:
    """Make a run around a network."""
    model = network() if model is None else model
    made = optimizer(model.parameters(), **({"lr": 0.01} | options))
    cosine = CosineAnnealingLR(made, T_max=20) if scheduler is None else scheduler(made)
    return LiveObjects(model, made, cosine)


def train(run: LiveObjects, steps: int = 1) -> None:
    """Take optimizer and scheduler steps on random input."""
    dtype = next(run.model.parameters()).dtype
    optimizer: Any = run.optimizer
    scheduler: Any = run.scheduler

    for _ in range(steps):
        batch = torch.randn(5, 4).to(dtype)

        def closure(batch: torch.Tensor = batch) -> torch.Tensor:
            optimizer.zero_grad()
            loss: torch.Tensor = run.model(batch).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        scheduler.step()


def assert_continues(
    make_run: Callable[[], LiveObjects], step: Callable[[LiveObjects], None] = train
) -> None:
    """Check that a run restored from its stored state goes on as the original does."""
    original = make_run()
    for _ in range(3):
        step(original)
    state = snapshot(capture(original))
    stored = through(state)
    assert same(stored, state)
    for _ in range(3):
        step(original)
    other = make_run()
    for _ in range(2):  # torch fills its state; what is restored replaces it
        step(other)
    prepare(other, stored).apply()
    assert same(capture(other), state)
    for _ in range(3):
        step(other)
    assert same(capture(other), capture(original))


def restore(run: LiveObjects, state: dict[str, Any], **options: Any) -> RestoreReport:
    """Restore a run from a copy of a state."""
    return prepare(run, snapshot(state), **options).apply()
