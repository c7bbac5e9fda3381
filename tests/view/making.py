"""States and commits for the view's tests, written as a run would write them."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradient.checkpoint.writer import write_state
from gradient.codec.mode import Mode
from gradient.objects import timestamp
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo.branch_writer import BranchWriter, Published
from gradient.repo.repository import Repository
from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects, Registered
from gradient.view.init_repo import init_repo
from gradient.view.updates import ViewUpdater

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Box:
    """Registered state: whatever is put into it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self) -> Any:
        return self.value

    def set(self, value: Any) -> None:
        self.value = value


PLAIN = {"seen": 17, "best": (0.25, -0.0), "order": OrderedDict(b=1, a=2), "counts": Counter("aab")}
"""Registered state that a plain `torch.load` takes as it is."""


def make_repo(folder: Path) -> Repository:
    init_repo(folder)
    return Repository.open(folder, workers=1)


def make_run(seed: int = 1, *, registered: Mapping[str, Any] | None = None) -> LiveObjects:
    """Return a small run whose optimizer and generators have seen use."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        scheduler.step()
    boxes = {name: Box(value) for name, value in (registered or {}).items()}
    states = {name: Registered(box.get, box.set) for name, box in boxes.items()}
    return LiveObjects(model, optimizer, scheduler, states)


def publish(line: BranchWriter, step: int, state: Mapping[str, Any]) -> Published:
    """Store a state as the next commit."""
    time = timestamp.now()

    def build(branch: str, parent: Oid | None) -> Oid:
        with line.repo.store.begin(mode=Mode.OFF) as transaction:
            commit = CommitRecord(
                tree=write_state(transaction, state),
                parents=() if parent is None else (parent,),
                anchor=None,
                step=step,
                branch=branch,
                time=time,
                message=f"step {step}",
                metrics={"loss": 0.5, "worst": float("nan")},
            )
            oid = transaction.put(Kind.COMMIT, commit.to_bytes())
            transaction.seal()
        return oid

    return line.publish(step, build)


def commit(
    view: ViewUpdater, line: BranchWriter, step: int, state: Mapping[str, Any]
) -> str | None:
    """Publish a state and take it into the view, as the engine does."""
    return view.add(publish(line, step, state).commit, state)


def captured(seed: int = 1, **registered: Any) -> dict[str, Any]:
    """Return a captured state."""
    return capture(make_run(seed, registered=registered))
