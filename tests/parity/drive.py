"""Runs a workload in a new process: alone, or with an engine that commits and a kill at the end.

Both write a journal, one JSON line for each thing that must come out equal. It is written before
the commit that it speaks of, and SIGKILL does not take back what was written.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.parity.digest import digest
from tests.parity.workloads import STEPS, WORKLOADS, Rig

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from gradient import GradientEngine


class Journal:
    """Appends what happened to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, step: int, **facts: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "step": step, **facts}) + "\n")

    def read(self, event: str) -> list[dict[str, Any]]:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def train_step(rig: Rig, batch: Any) -> torch.Tensor:
    """One step of any workload."""
    rig.optimizer.zero_grad()
    loss = rig.batch_loss(batch)
    loss.backward()
    rig.optimizer.step()
    rig.scheduler.step()
    return loss.detach()


def note(journal: Journal, rig: Rig, step: int, loss: torch.Tensor) -> None:
    """Write what a step came to."""
    journal.write("step", step, loss=float(loss).hex(), digest=digest(*rig.holders()))


def run_alone(workload: str, journal_path: Path) -> None:
    """Train without interruption, and without Gradient: the truth to compare with."""
    rig = WORKLOADS[workload]()
    journal = Journal(journal_path)
    step = 0
    journal.write("step", 0, loss=None, digest=digest(*rig.holders()))
    while step < STEPS:
        for batch in rig.loader or [None]:
            if step == STEPS:
                break
            step += 1
            note(journal, rig, step, train_step(rig, batch))


def run_engine(workload: str, journal_path: Path, stride: int, options: dict[str, Any]) -> None:
    """Attach, go on where the last process was killed, commit each step; die after `stride`."""
    from gradient import GradientConfig, GradientEngine

    rig = WORKLOADS[workload]()
    journal = Journal(journal_path)
    config = GradientConfig(workspace_path="work", repo_name="run", **options)
    engine = GradientEngine.attach(
        rig.model, rig.optimizer, rig.scheduler, config=config, resume="auto"
    )
    for name, thing in rig.registered.items():
        engine.register_state(name, thing)
    if rig.loader is None:
        run_steps(engine, rig, journal, stride)
    else:
        run_epochs(engine, rig, journal, stride)
    engine.close()


def run_steps(engine: GradientEngine, rig: Rig, journal: Journal, stride: int) -> None:
    """Drive a workload that draws its own batches."""
    first = engine.current_step
    journal.write("resumed", first, digest=digest(*rig.holders()))
    for step in engine.steps(STEPS):
        note(journal, rig, step, train_step(rig, None))
        commit(engine, journal, step)
        if step == first + stride and step < STEPS:
            engine.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def run_epochs(engine: GradientEngine, rig: Rig, journal: Journal, stride: int) -> None:
    """Drive a workload that is fed by a loader."""
    assert rig.loader is not None
    loader = engine.loader(rig.loader)
    step = first = engine.current_step
    journal.write("resumed", first, digest=digest(*rig.holders()))
    for _ in engine.epochs(0, 4):
        for batch in loader:
            if step == STEPS:
                return
            step += 1
            note(journal, rig, step, train_step(rig, batch))
            commit(engine, journal, step)
            if step == first + stride and step < STEPS:
                engine.flush()
                os.kill(os.getpid(), signal.SIGKILL)


def commit(engine: GradientEngine, journal: Journal, step: int) -> None:
    """Commit, and write that it was acknowledged."""
    revision = engine.commit(step)
    journal.write("acknowledged", step, revision=str(revision))
