"""The examples of the published package's guide, word for word, run with this package."""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
from torch import nn, optim

from gradient import (
    GradientConfig,
    GradientEngine,
    RepoConfig,
    WorkspaceConfig,
    find_repo,
    find_workspace,
    init_repo,
    init_workspace,
    resolve_context,
)
from gradient.repo.repository import Repository
from tests.cli.command import call, finish, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.fork_server import ForkServer

    Attached = Callable[..., GradientEngine]

QUICK_START = """
import torch
import torch.nn as nn
import torch.optim as optim
from gradient import GradientEngine

model = nn.Linear(4, 1)
opt = optim.Adam(model.parameters(), lr=1e-3)

# Both workspace and repo are auto-created!
engine = GradientEngine.attach(
    model, opt,
    workspace="./my_workspace",
    repo="my_model"
)
engine.autocommit(every=5)

start = engine.current_step
for step in range(start + 1, start + 21):
    loss = (model(torch.randn(32, 4)) ** 2).mean()
    loss.backward()
    opt.step()
    opt.zero_grad(set_to_none=True)
    engine.maybe_commit(step)
"""

TRAIN = """
import json
import torch
from gradient import GradientEngine

model = torch.nn.Linear(4, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
engine = GradientEngine.attach(model, optimizer)
start = engine.current_step
lr = optimizer.param_groups[0]["lr"]
engine.autocommit(every=10)
for step in range(start + 1, start + 11):
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    engine.maybe_commit(step)
print(json.dumps({"start": start, "branch": engine.branch, "lr": lr, "end": step}))
"""


def run_script(path: str, arguments: Sequence[str]) -> None:
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


@pytest.fixture
def launched(fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the command launch ``python SCRIPT`` without the seconds that importing torch takes.

    That signals, environment and exit code are right in real processes, test_launch.py says.
    Returns what the scripts print.
    """
    printed: list[str] = []

    def run(command: Sequence[str], environ: Mapping[str, str]) -> int:
        python, script, *arguments = command
        assert python == "python"
        with mock.patch.dict(os.environ, environ, clear=True):
            printed.append(fork_server.run(run_script, str(Path(script).resolve()), arguments))
        return 0

    monkeypatch.setattr("gradient.cli.launch.run", run)
    return printed


@pytest.fixture
def attached() -> Iterator[Attached]:
    """Attach new objects; the engines are closed at the end."""
    engines = []

    def attach(**arguments: Any) -> GradientEngine:
        model = nn.Linear(4, 1)
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        engines.append(GradientEngine.attach(model, optimizer, **arguments))
        return engines[-1]

    yield attach
    for engine in engines:
        engine.close()


@pytest.fixture
def hundred(attached: Attached) -> Repository:
    """``my_workspace/my_model`` with commits up to main@100, after a run."""
    engine = attached(workspace="./my_workspace", repo="my_model")
    for step in (0, 50, 100):
        engine.commit(step)
    engine.close()
    return Repository.open(engine.repo_path)


def script_output(printed: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed[-1].splitlines()[-1])
    return found


def steps(branch: str = "main") -> list[int]:
    repo = Repository.open("my_workspace/my_model")
    return [commit.step for _, commit in repo.line(branch)][::-1]


# -- Quick start ---------------------------------------------------------------------------------


def test_zero_setup(launched: list[str]) -> None:
    Path("train.py").write_text(QUICK_START)
    call("run", "--", "python", "train.py")
    assert steps() == [5, 10, 15, 20]
    call("resume", "latest", "--", "python", "train.py")
    assert steps() == [5, 10, 15, 20, 25, 30, 35, 40]


def test_cli_initialized_workflow(attached: Attached) -> None:
    call("workspace", "init", "./ml-experiments")
    os.chdir("ml-experiments")
    call("repo", "init", "gpt4", "--description", "GPT-4 training runs")
    assert "GPT-4 training runs" in call("workspace", "status").stdout
    engine = attached()
    assert engine.repo_path == str(Path.cwd() / "gpt4")


# -- Attach --------------------------------------------------------------------------------------


def test_attach_auto_create(attached: Attached) -> None:
    engine = attached(workspace="./my_workspace", repo="my_model")
    assert engine.workspace_path == str(Path.cwd() / "my_workspace")
    assert engine.repo_name == "my_model"
    assert engine.repo_path == str(Path.cwd() / "my_workspace" / "my_model")
    assert engine.branch == "main"
    assert engine.current_step == 0


@pytest.mark.parametrize("folder", [".", "my_workspace", "my_workspace/my_model"])
def test_attach_auto_discover(folder: str, hundred: Repository, attached: Attached) -> None:
    os.chdir(folder)
    assert attached(resume="latest").repo_path == hundred.path


def test_attach_with_explicit_config() -> None:
    model = nn.Linear(4, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    lr_scheduler = optim.lr_scheduler.StepLR(optimizer, 1)
    engine = GradientEngine.attach(
        model,
        optimizer,
        scheduler=lr_scheduler,
        config=GradientConfig(
            workspace_path="./my_workspace",
            repo_name="my_model",
            branch="experiment",
            reanchor_interval=50,
            compression="auto",
        ),
    )
    optimizer.step()
    lr_scheduler.step()
    assert engine.commit(1) == "experiment@1"
    lr_scheduler.step()
    engine.resume("experiment@1")
    assert lr_scheduler.last_epoch == 1
    engine.close()


# -- Commit --------------------------------------------------------------------------------------


def test_periodic_autocommit(attached: Attached) -> None:
    engine = attached(workspace="./my_workspace", repo="my_model")
    engine.autocommit(every=10)
    start = engine.current_step
    for step in range(start + 1, start + 36):
        engine.maybe_commit(step)
    assert steps() == [10, 20, 30]


def test_manual_milestone_commits(attached: Attached) -> None:
    engine = attached(workspace="./my_workspace", repo="my_model")
    start = engine.current_step
    for step in range(start + 1, start + 101):
        if step in {1, 50, 100, 250, 500}:
            engine.commit(step, message=f"milestone step {step}")
    found = Repository.open(engine.repo_path)
    assert [commit.message for _, commit in found.line("main")] == [
        "milestone step 100",
        "milestone step 50",
        "milestone step 1",
    ]


# -- Resume and fork -----------------------------------------------------------------------------


def test_resume(hundred: Repository, attached: Attached) -> None:
    engine = attached(workspace="./my_workspace", repo="my_model", resume="main@50")
    assert engine.resume("main@100") == 100
    assert engine.current_step == 100
    assert engine.resume_latest() == 100


def test_fork(hundred: Repository, attached: Attached) -> None:
    engine = attached(workspace="./my_workspace", repo="my_model", resume="latest")
    forked = engine.fork(
        from_ref="main@100",
        new_branch="experiment",
        reset_optimizer=False,
        reset_scheduler=False,
        reset_rng_seed=None,
        message="",
    )
    assert forked == "experiment@100"
    assert engine.branch == "experiment"
    assert engine.commit(101) == "experiment@101"


def test_register_state(hundred: Repository, attached: Attached) -> None:
    class Environment:
        state: Any = None

        def get_state(self) -> Any:
            return self.state

        def set_state(self, state: Any) -> None:
            self.state = state

    env = Environment()
    env.state = {"position": (1, 2)}
    engine = attached(workspace="./my_workspace", repo="other")
    engine.register_state(
        "env_state", getter=lambda: env.get_state(), setter=lambda s: env.set_state(s)
    )
    engine.commit(1)
    env.state = None
    engine.resume("main@1")
    assert env.state == {"position": (1, 2)}


# -- The command line ----------------------------------------------------------------------------


def test_gradient_resume_main_100(hundred: Repository, launched: list[str]) -> None:
    Path("train.py").write_text(TRAIN)
    call("resume", "main@100", "--", "python", "train.py")
    assert script_output(launched) == {"start": 100, "branch": "main", "lr": 1e-3, "end": 110}
    assert steps() == [0, 50, 100, 110]


def test_gradient_resume_latest(hundred: Repository, launched: list[str]) -> None:
    Path("train.py").write_text(TRAIN)
    call("resume", "latest", "--", "python", "train.py")
    call("resume", "latest", "--", "python", "train.py")
    assert script_output(launched)["start"] == 110
    assert steps() == [0, 50, 100, 110, 120]


def test_gradient_fork(hundred: Repository, launched: list[str]) -> None:
    Path("train.py").write_text(TRAIN)
    call("fork", "main@100", "high_lr", "--scale-lr", "10", "--", "python", "train.py")
    assert script_output(launched) == {"start": 100, "branch": "high_lr", "lr": 1e-2, "end": 110}
    assert steps("high_lr") == [0, 50, 100, 100, 110]
    assert steps() == [0, 50, 100]


def test_gradient_fork_with_its_published_options(hundred: Repository, launched: list[str]) -> None:
    Path("train.py").write_text(TRAIN)
    words = ["main@50", "fresh", "--reset-optimizer", "--reset-rng-seed", "7"]
    call("fork", *words, "--", "python", "train.py")
    assert steps("fresh") == [0, 50, 50, 60]


def test_in_real_processes(hundred: Repository) -> None:
    Path("train.py").write_text(TRAIN)
    words = ["fork", "main@100", "high_lr", "--set", "lr=0.5", "--", sys.executable, "train.py"]
    out, _ = finish(spawn(*words))
    assert script_output([out]) == {"start": 100, "branch": "high_lr", "lr": 0.5, "end": 110}
    resume = f"gradient resume high_lr@110 -- {sys.executable} train.py"
    assert resume in call("status").stdout


def test_run_starts_and_continues(launched: list[str]) -> None:
    Path("train.py").write_text(TRAIN)
    call("workspace", "init", "my_workspace")
    call("-w", "my_workspace", "-r", "my_model", "run", "--", "python", "train.py")
    assert script_output(launched)["start"] == 0
    call("run", "--", "python", "train.py")
    assert script_output(launched)["start"] == 10
    call("run", "--branch", "other", "--", "python", "train.py")
    assert script_output(launched) == {"start": 0, "branch": "other", "lr": 1e-3, "end": 10}
    assert steps() == [10, 20]
    assert steps("other") == [10]


# -- The five variables --------------------------------------------------------------------------


def test_workspace_and_repo(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_WORKSPACE", "elsewhere")
    monkeypatch.setenv("GRADIENT_REPO", "theirs")
    engine = attached(workspace="./my_workspace", repo="my_model")
    assert engine.repo_path == str(Path.cwd() / "elsewhere" / "theirs")


def test_branch(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_BRANCH", "experiment")
    assert attached(workspace="./my_workspace", repo="my_model").commit(0) == "experiment@0"


@pytest.mark.parametrize(("ref", "step"), [("main@50", 50), ("latest", 100), ("auto", 100)])
def test_resume_ref(
    ref: str, step: int, hundred: Repository, attached: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIENT_RESUME_REF", ref)
    assert attached(workspace="./my_workspace", repo="my_model").current_step == step


def test_autocommit(attached: Attached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_AUTOCOMMIT", "4")
    engine = attached(workspace="./my_workspace", repo="my_model")
    for step in range(1, 10):
        engine.maybe_commit(step)
    assert steps() == [4, 8]


# -- Workspaces, repos, layout -------------------------------------------------------------------


def test_workspace_and_repo_functions() -> None:
    workspace = init_workspace("lab", name="Lab")
    assert isinstance(workspace, WorkspaceConfig)
    repo = init_repo("lab/gpt4", name="gpt4", description="tiny", workspace_path="lab")
    assert isinstance(repo, RepoConfig)
    inside = Path("lab/gpt4/deep")
    inside.mkdir()
    assert find_workspace(str(inside)) == str(Path.cwd() / "lab")
    assert find_repo(str(inside)) == str(Path.cwd() / "lab" / "gpt4")
    assert find_workspace() is None
    assert find_repo() is None
    context = resolve_context(str(inside))
    assert (context.in_workspace, context.in_repo) == (True, True)
    assert context.workspace_config is not None
    assert context.workspace_config.name == "Lab"
    assert context.repo_config is not None
    assert (context.repo_config.name, context.repo_config.description) == ("gpt4", "tiny")


def test_layout_and_manifest(hundred: Repository) -> None:
    workspace, repo = Path("my_workspace"), Path("my_workspace/my_model")
    assert (workspace / ".gradient" / "config.json").is_file()
    assert (repo / ".gradient-repo" / "config.json").is_file()
    manifest = json.loads((repo / "manifest.json").read_text())
    assert manifest["repo_name"] == "my_model"
    assert {"description", "created_at"} <= manifest.keys()
    for entry in manifest["checkpoints"]:
        step = entry["step"]
        assert entry["branch"] == "main"
        assert entry["type"] in ("anchor", "delta")
        assert entry["file"] == str(Path.cwd() / repo / f"ckpt_main_s{step}.pt")
        payload = torch.load(entry["file"], weights_only=True)
        assert payload["data"]["step"] == step
    assert [entry["step"] for entry in manifest["checkpoints"]] == [0, 50, 100]
