"""Run by the published package's test, in a process that imports that package as `gradient`.

Arguments: the workspace, the repo, a revision, how many steps to train, and whether to commit.
Prints what the run is after resuming and training, as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import sys
from typing import Any

import torch


def train(model: Any, optimizer: Any, scheduler: Any, box: dict[str, Any], steps: int) -> None:
    """Train on noise; the registered state draws from Python's generator."""
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        scheduler.step()
        box["seen"].append(random.random())


def digest(model: Any, optimizer: Any, scheduler: Any, box: dict[str, Any]) -> dict[str, str]:
    """Return what tells two runs apart, down to the last bit."""
    moments = [
        (key, name, hashed(value))
        for key, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    ]
    return {
        "model": repr([(name, hashed(value)) for name, value in model.state_dict().items()]),
        "optimizer": repr(moments),
        "groups": repr(optimizer.state_dict()["param_groups"]),
        "scheduler": repr(sorted(scheduler.state_dict().items(), key=str)),
        "box": repr(box),
        "next": repr((torch.rand(1).item(), random.random())),
    }


def hashed(tensor: Any) -> str:
    content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype} {hashlib.sha256(content).hexdigest()}"


def main() -> None:
    from gradient import GradientEngine

    workspace, repo, revision, steps, commits = sys.argv[1:]
    torch.manual_seed(99)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    box: dict[str, Any] = {}
    with contextlib.redirect_stdout(sys.stderr):
        engine = GradientEngine.attach(model, optimizer, scheduler, workspace=workspace, repo=repo)
        engine.register_state("env", getter=lambda: box, setter=box.update)
        step = engine.resume(revision)
        train(model, optimizer, scheduler, box, int(steps))
        if commits == "commit":
            engine.commit(step + int(steps))
    sys.stdout.write(json.dumps({"step": step, **digest(model, optimizer, scheduler, box)}))


if __name__ == "__main__":
    main()
