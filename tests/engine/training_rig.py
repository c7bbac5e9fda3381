"""A tiny run, real in every part, and how the tests compare two of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import StepLR

from gradient import GradientConfig, GradientEngine
from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects
from gradient.state.snapshot import snapshot
from tests.state.value_roundtrip import same


def network(width: int = 6) -> torch.nn.Sequential:
    """Make a network with parameters, buffers and something that draws."""
    return torch.nn.Sequential(
        torch.nn.Linear(4, width),
        torch.nn.BatchNorm1d(width),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(width, 2),
    )


@dataclass
class Rig:
    """Model, optimizer and scheduler, as a script makes them."""

    model: torch.nn.Module = field(default_factory=network)
    optimizer: Any = None
    scheduler: Any = None

    def __post_init__(self) -> None:
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        if self.scheduler is None:
            self.scheduler = StepLR(self.optimizer, 2, gamma=0.5)

    def step(self) -> None:
        """Train one step on random input."""
        self.optimizer.zero_grad()
        self.model(torch.randn(5, 4)).square().mean().backward()
        self.optimizer.step()
        self.scheduler.step()

    def attach(self, branch: str | None = None, **options: Any) -> GradientEngine:
        """Attach to the repo ``work/run`` of the current folder, writing no view."""
        if "config" not in options:
            settings = {} if branch is None else {"branch": branch}
            options["config"] = config(**settings)
        return GradientEngine.attach(self.model, self.optimizer, self.scheduler, **options)

    def train(self, engine: GradientEngine, *steps: int) -> None:
        """Train and commit each of these steps."""
        for step in steps:
            self.step()
            engine.commit(step)

    def state(self) -> dict[str, Any]:
        """Copy everything that a commit would hold."""
        state: dict[str, Any] = snapshot(
            capture(LiveObjects(self.model, self.optimizer, self.scheduler))
        )
        return state


def config(**settings: Any) -> GradientConfig:
    """Name the repo that the tests use."""
    return GradientConfig(
        **{"workspace_path": "work", "repo_name": "run", "view": "off"} | settings
    )


def trained(*steps: int, branch: str | None = None) -> tuple[Rig, GradientEngine]:
    """Make a run that has committed these steps."""
    rig = Rig()
    engine = rig.attach(branch)
    rig.train(engine, *steps)
    return rig, engine


def assert_same(one: Any, other: Any) -> None:
    """Check two states for equality to the bit, naming the component that differs."""
    assert list(one) == list(other)
    assert [name for name in one if not same(one[name], other[name])] == []


def stored_bytes(repo: str = "work/run") -> int:
    """Count the bytes of all objects in a repo."""
    folder = Path(repo, ".gradient-repo", "objects")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
