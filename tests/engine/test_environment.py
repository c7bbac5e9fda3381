"""The environment that a commit records."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradient._version import __version__
from gradient.checkpoint.reader import read_value
from gradient.engine.environment import capture_environment
from gradient.repo.repository import Repository
from tests.engine.training_rig import trained


def test_it_says_versions_command_and_place() -> None:
    found = capture_environment()
    assert found["gradient"] == __version__
    assert found["torch"] == torch.__version__
    assert found["cwd"] == str(Path.cwd())
    assert found["seed"] == torch.initial_seed()
    assert found["devices"] == [] or torch.cuda.is_initialized()


def test_every_commit_of_a_run_names_the_same_one() -> None:
    trained(1, 2)
    repo = Repository.open("work/run")
    oids = {commit.environment for _, commit in repo.line("main")}
    (oid,) = oids
    assert oid is not None
    assert read_value(repo.store, oid)["gradient"] == __version__


def test_the_codes_revision_and_whether_it_was_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    script = Path("code/train.py")
    script.parent.mkdir()
    script.write_text("one")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert capture_environment()["code"] is None
    git("init", "-q", "code")
    git("-C", "code", "add", "train.py")
    git("-C", "code", "commit", "-q", "-m", "x")
    code = capture_environment()["code"]
    assert len(code["commit"]) == 40
    assert code["dirty"] is False
    script.write_text("two")
    assert capture_environment()["code"]["dirty"] is True


def test_a_folder_that_is_gone_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Path("gone")
    gone.mkdir()
    monkeypatch.chdir(gone)
    Path.cwd().rmdir()
    assert capture_environment()["cwd"] is None
