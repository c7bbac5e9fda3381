"""A real run of a tiny model. With ``--forks`` it also tries a higher rate, and goes back once."""

from __future__ import annotations

import sys

import torch

from gradient import GradientEngine

STOP = 40
EVERY = 10


def train(engine: GradientEngine, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Fit a linear function with dropout and Adam; commit every tenth step."""
    for step in engine.steps(STOP):
        inputs = torch.randn(32, 8)
        optimizer.zero_grad()
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            lr = float(optimizer.param_groups[0]["lr"])
            engine.commit(step, metrics={"loss": loss.item(), "seen": 32 * step, "lr": lr})


def main() -> None:
    """Train, or resume the commit of the launch."""
    torch.manual_seed(7)
    model = torch.nn.Sequential()
    model.add_module("embed", torch.nn.Linear(8, 64))
    model.add_module("drop", torch.nn.Dropout(0.1))
    model.add_module("head", torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    engine = GradientEngine.attach(model, optimizer, hparams={"width": 64, "lr": 1e-2})
    if engine.current_step == 0:
        engine.commit(0, "before the first step")
    train(engine, model, optimizer)
    if "--forks" in sys.argv:
        engine.fork(from_ref="main@20", new_branch="high_lr", scale_lr=3.0, message="three times")
        train(engine, model, optimizer)
        engine.resume("main@20")
        train(engine, model, optimizer)
    engine.close()


if __name__ == "__main__":
    main()
