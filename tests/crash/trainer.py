"""A run whose state at each step is known beforehand, for processes that are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from tests.parity.digest import digest
from tests.parity.drive import Journal

if TYPE_CHECKING:
    from pathlib import Path

    from gradient.engine.revision import Revision


class Rig:
    """A model and its optimizer, both a function of the step alone."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(64, 200), nn.BatchNorm1d(200), nn.Linear(200, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def fill(self, step: int) -> None:
        """Put everything where it is at a step."""
        torch.manual_seed(step)
        for parameter in self.model.parameters():
            parameter.data.normal_()
            moments = (torch.randn_like(parameter) for _ in range(2))
            first, second = moments
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": first,
                "exp_avg_sq": second.square(),
            }

    def digest(self) -> str:
        return digest(self.model, self.optimizer)


def expected_digest(step: int) -> str:
    """Return what the state of a step hashes to."""
    rig = Rig()
    rig.fill(step)
    return rig.digest()


def commit_steps(journal_path: Path, count: int, view: str, background: bool = False) -> None:
    """Go on where the last life ended, check what was restored, and commit the next steps."""
    from gradient import GradientConfig, GradientEngine

    journal = Journal(journal_path)
    rig = Rig()
    journal.write("ready", 0)
    config = GradientConfig("work", "run", view=view, background=background)
    engine = GradientEngine.attach(rig.model, rig.optimizer, config=config, resume="auto")
    resumed = engine.current_step
    journal.write("resumed", resumed)
    if resumed:
        assert rig.digest() == expected_digest(resumed)
    unfinished: list[Revision] = []
    for step in engine.steps(resumed + count):
        rig.fill(step)
        journal.write("attempted", step)
        unfinished.append(engine.commit(step))
        while unfinished and unfinished[0].done:
            done = unfinished.pop(0)
            journal.write("acknowledged", done.step, id=done.id)
    engine.close()
