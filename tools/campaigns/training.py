"""Operations with engines on runs whose state at each step is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from gradient import GradientConfig, GradientEngine, load
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.repo.config import ViewMode
from gradient.repo.repository import Repository
from gradient.repo.workspace import init_workspace
from gradient.view import desc_payload
from gradient.view.file_names import file_name
from gradient.view.init_repo import init_repo
from gradient.view.rebuild import rebuild
from tools.campaigns.operations import MAIN, OPERATIONS, following
from tools.campaigns.oracle import Client, Refs, ViolationError
from tools.campaigns.scenario import Scenario


class Run:
    """A model and its optimizer; both are a function of the step."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(8, 20), nn.BatchNorm1d(20), nn.Linear(20, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def fill(self, step: int) -> Run:
        """Set the state of a step; return self."""
        torch.manual_seed(step)
        for parameter in self.model.parameters():
            parameter.data.normal_()
            moments = [torch.randn_like(parameter) for _ in range(2)]
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": moments[0],
                "exp_avg_sq": moments[1].square(),
            }
        return self

    def equals(self, model: Any, optimizer: Any) -> bool:
        """Return whether the states are those of this object, bit for bit."""
        own = [dict(self.model.state_dict()), self.optimizer.state_dict()]
        return list(_spelled([model, optimizer])) == list(_spelled(own))


def _spelled(value: Any) -> Iterator[object]:
    if isinstance(value, torch.Tensor):
        yield value.dtype, value.shape, value.reshape(-1).view(torch.uint8).tolist()
    elif isinstance(value, dict):
        yield from _spelled([part for item in value.items() for part in item])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _spelled(item)
    else:
        yield value


def attach(client: Client, *, background: bool = False, view: ViewMode = "auto") -> tuple[Run, Any]:
    """Resume the last commit; raises ViolationError if the restored state differs."""
    run = Run()
    config = GradientConfig(client.path.parent, "run", view=view, background=background)
    engine = GradientEngine.attach(
        run.model, run.optimizer, config=config, resume=f"main@{client.refs[MAIN][-1]}"
    )
    there = [dict(run.model.state_dict()), run.optimizer.state_dict()]
    if not Run().fill(engine.current_step).equals(*there):
        raise ViolationError(f"step {engine.current_step} was resumed with other bits")
    return run, engine


def commit(client: Client) -> None:
    """Resume, and commit the next step."""
    run, engine = attach(client)
    step = client.refs[MAIN][-1] + 1
    run.fill(step)
    with client.attempt(client.with_line(MAIN, [*client.refs[MAIN], step])):
        engine.commit(step)
    engine.close()


def commit_behind(client: Client) -> None:
    """Resume and commit two steps in the background."""
    run, engine = attach(client, background=True, view="thin")
    step = client.refs[MAIN][-1] + 1
    one = client.with_line(MAIN, [*client.refs[MAIN], step])
    two = client.with_line(MAIN, [*one[MAIN], step + 1])
    client.announce(one, two)
    run.fill(step)
    first = engine.commit(step)
    run.fill(step + 1)
    second = engine.commit(step + 1)
    first.wait()
    client.acknowledge(one)
    client.announce(two)
    second.wait()
    client.acknowledge(two)
    engine.close()


def fork(client: Client) -> None:
    """Resume, and fork from an earlier commit."""
    _, engine = attach(client)
    steps = client.refs[MAIN]
    at = client.chance.randrange(len(steps))
    number = following(client, "heads/side")
    line = [*steps[: at + 1], steps[at]]
    with client.attempt(client.with_line(f"heads/side{number}", line)):
        engine.fork(from_ref=f"main@{steps[at]}", new_branch=f"side{number}")
    engine.close()


def rebuild_view(client: Client) -> None:
    """Rebuild the view with full files."""
    with client.attempt(client.refs):
        for path in client.path.glob("ckpt_*.pt"):
            path.unlink()
        rebuild(client.open(), mode="auto")


def is_right(repo: Repository, oid: Oid, commit: CommitRecord) -> bool:
    """Return whether commit and view file have the state of the step."""
    run = Run().fill(commit.step)
    states = [desc_payload.read(repo, oid)["data"]]
    file = Path(repo.path, file_name(commit.branch, commit.step))
    if file.exists():
        states.append(load(file))
    return all(run.equals(state["model"], state["optimizer"]) for state in states)


def make_world(folder: Path) -> tuple[Path, Refs]:
    """Make a repo with two commits."""
    init_workspace(folder)
    path = folder / "run"
    init_repo(path, "run", None, folder)
    run = Run()
    config = GradientConfig(folder, "run")
    engine = GradientEngine.attach(run.model, run.optimizer, config=config)
    for step in (1, 2):
        run.fill(step)
        engine.commit(step)
    engine.close()
    return path, {MAIN: [1, 2]}


SCENARIO: Final = Scenario(
    {
        "commit": commit,
        "commits behind the loop": commit_behind,
        "fork by an engine": fork,
        "view rebuild with full files": rebuild_view,
        **{name: OPERATIONS[name] for name in ("fork", "delete a branch", "gc", "repack", "view")},
    },
    make_world,
    is_right,
)
"""The operations that need torch."""
