from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from gradient import GradientEngine
from tests.cli.command import call

if TYPE_CHECKING:
    from gradient.engine.commit.commit_handle import Revision

REPO = Path("runs/gpt")


@pytest.fixture
def revision() -> Revision:
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with GradientEngine.attach(model, optimizer, workspace="runs", repo="gpt") as engine:
        engine.commit(0)
        engine.register_state("odd", getter=lambda: frozenset({frozenset({1})}), setter=print)
        return engine.commit(5)


def test_rebuild_writes_the_missing_files(revision: Revision) -> None:
    for path in [*REPO.glob("ckpt_*"), REPO / "manifest.json"]:
        path.unlink()
    assert "2 files written, 0 kept" in call("view", "rebuild").stdout
    assert torch.load(REPO / "ckpt_main_s0.pt", weights_only=True)["data"]["step"] == 0
    assert "0 files written, 2 kept" in call("view", "rebuild").stdout
    (REPO / "ckpt_main_s0.pt").unlink()
    assert "1 view file missing" in call("status").stdout
    call("view", "rebuild", "--mode", "thin")
    assert (REPO / "ckpt_main_s0.pt").stat().st_size < 1000


def test_export_is_self_contained(revision: Revision) -> None:
    result = call("export", "main@5", "model.pt")
    assert "main@5" in result.stdout
    assert "odd" in result.stderr
    code = (
        "import sys, torch; found = torch.load('model.pt'); "
        "sys.exit(found['step'] != 5 or 'gradient' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_export_replaces_nothing_without_force(revision: Revision) -> None:
    call("export", "main@0", "model.pt")
    assert "--force" in call("export", "main@5", "model.pt", code=5).stderr
    assert torch.load("model.pt", weights_only=True)["step"] == 0
    call("export", "main@5", "model.pt", "--force")
    assert torch.load("model.pt", weights_only=True)["step"] == 5


def test_export_refuses_what_it_cannot_write(revision: Revision) -> None:
    call("export", "main@5", "model.gguf", code=2)
    call("export", "main@6", "model.pt", code=4)
    assert not Path("model.pt").exists()


def test_an_exported_file_in_the_repos_folder_is_recognized(revision: Revision) -> None:
    call("export", "main@5", str(REPO / "ckpt_mine.pt"))
    call("fork", "main@5", "side")
