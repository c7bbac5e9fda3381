"""Resume from every commit of a run: the losses and weights up to its end must be the same.

The run has dropout, momentum, a schedule and batches shuffled by a loader. At each step it draws
from Python's, NumPy's and torch's generators and from one of its own. It is compared bit for bit
with a run that does not use Gradient.

    python -m tools.campaigns.resume                200 steps, resumed from each
    python -m tools.campaigns.resume --stride 20    resumed from each 20th
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradient import GradientConfig, GradientEngine
from tools.campaigns.oracle import ViolationError, scratch_folder

_SEED: Final = 20260210


class Noise:
    """A generator that the script registers."""

    def __init__(self) -> None:
        self.own = np.random.default_rng(_SEED)

    def state_dict(self) -> dict[str, Any]:
        """Return its state."""
        return {"own": self.own.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set its state."""
        self.own.bit_generator.state = state["own"]


class Run:
    """The objects of a training script."""

    def __init__(self, steps: int) -> None:
        random.seed(_SEED)
        np.random.seed(_SEED)
        torch.manual_seed(_SEED)
        data = TensorDataset(torch.randn(50, 6), torch.randn(50, 2))
        self.loader: Any = DataLoader(data, batch_size=4, shuffle=True)
        self.model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)
        self.noise = Noise()

    def step(self, batch: Any) -> str:
        """Train on a batch; return the loss as an exact string."""
        inputs, targets = batch
        shift = random.random() + float(np.random.random()) + float(self.noise.own.random())
        self.optimizer.zero_grad()
        loss = (self.model(inputs) - targets - 0.01 * shift).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return float(loss).hex()

    def digest(self) -> str:
        """Hash the weights and the optimizer's moments."""
        seen = hashlib.blake2b()
        for value in self.model.state_dict().values():
            seen.update(value.numpy().tobytes())
        for state in self.optimizer.state.values():
            seen.update(state["momentum_buffer"].numpy().tobytes())
        seen.update(repr([random.random(), np.random.random(), torch.rand(1).item()]).encode())
        return seen.hexdigest()


def alone(steps: int) -> tuple[list[str], str]:
    """Train without Gradient; return the losses and the hash of the end state."""
    run = Run(steps)
    losses: list[str] = []
    while len(losses) < steps:
        for batch in run.loader:
            losses.append(run.step(batch))
            if len(losses) == steps:
                break
    return losses, run.digest()


def resumed(
    steps: int, workspace: str, ref: str | None, *, commits: bool
) -> tuple[int, list[str], str]:
    """Train with an engine from a revision; return the first step, the losses and the end hash."""
    run = Run(steps)
    config = GradientConfig(workspace, "run", view="off", maintenance=0)
    engine = GradientEngine.attach(
        run.model, run.optimizer, run.scheduler, config=config, resume=ref
    )
    engine.register_state("noise", run.noise)
    loader = engine.loader(run.loader)
    begun = engine.current_step
    losses = []
    for step, batch in zip(range(begun + 1, steps + 1), _batches(engine, loader), strict=False):
        losses.append(run.step(batch))
        if commits:
            engine.commit(step)
    found = begun, losses, run.digest()
    engine.close()
    return found


def _batches(engine: GradientEngine, loader: Any) -> Iterator[Any]:
    for _ in engine.epochs(0, 10**6):
        yield from loader


def main(arguments: list[str] | None = None) -> int:
    """Resume from the commits and print the results; raises ViolationError."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.resume")
    parser.add_argument("--steps", type=int, default=200, help="of the run (default 200)")
    parser.add_argument("--stride", type=int, default=1, help="from each Nth commit (default 1)")
    parser.add_argument("--folder", default=scratch_folder(), help="where the repo lies")
    options = parser.parse_args(arguments)
    begun, count = time.monotonic(), 0
    losses, end = alone(options.steps)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        if resumed(options.steps, scratch, None, commits=True) != (0, losses, end):
            raise ViolationError("the run that commits is not the run that does not")
        for step in range(options.stride, options.steps + 1, options.stride):
            found = resumed(options.steps, scratch, f"main@{step}", commits=False)
            if found != (step, losses[step:], end):
                raise ViolationError(f"resumed at {step}, another run: {found[0]}")
            count += 1
    print(
        f"resumed from {count} commits of a run of {options.steps} steps, in "
        f"{time.monotonic() - begun:.0f} s: all losses and the final weights are bit-identical; "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
