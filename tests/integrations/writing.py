"""Run with the published package as `gradient`: writes a repo, and what it restores of that.

Arguments: the workspace, and the file for what it restores.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import torch

REVISIONS = ("main@0", "main@4", "main@8", "hot@8", "hot@10")


def build() -> tuple[Any, Any, Any]:
    """Make a small run."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])


def train(run: tuple[Any, Any, Any], env: dict[str, int], steps: int) -> None:
    model, optimizer, scheduler = run
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        scheduler.step()
        env["n"] += 1


def main() -> None:
    from gradient import GradientConfig, GradientEngine

    workspace, restored = sys.argv[1:]

    def attach(run: tuple[Any, Any, Any], env: dict[str, int], branch: str) -> Any:
        config = GradientConfig(workspace_path=workspace, repo_name="pub", branch=branch)
        engine = GradientEngine.attach(*run, config=config)
        engine.register_state("env", getter=lambda: dict(env), setter=env.update)
        return engine

    with contextlib.redirect_stdout(sys.stderr):
        run, env = build(), {"n": 0}
        engine = attach(run, env, "main")
        for step in (0, 4, 8):
            engine.commit(step, message=f"at {step}")
            train(run, env, 4)
        engine.fork(from_ref="main@8", new_branch="hot", message="hotter")
        engine = attach(run, env, "hot")
        engine.resume("hot@8")
        train(run, env, 2)
        engine.commit(10)
        found = {}
        for revision in REVISIONS:
            again, env = build(), {"n": 0}
            attach(again, env, "main").resume(revision)
            states = [part.state_dict() for part in again]
            found[revision] = [*states, env, torch.get_rng_state()]
    torch.save(found, restored)


if __name__ == "__main__":
    main()
