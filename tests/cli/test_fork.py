from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradient.objects import tree
from gradient.objects.oid import Kind
from tests.cli.command import call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def test_without_a_command_the_branch_is_created_and_active(history: PlainRepo) -> None:
    call("fork", "main@50", "calm", "-m", "a try")
    repo = history.reopen()
    ((oid, commit), *rest) = repo.line("calm")
    source = repo.resolve("main@50")
    assert oid == repo.tip("calm")
    assert (commit.step, commit.branch, commit.message) == (50, "calm", "a try")
    assert commit.parents == (source.oid,)
    assert commit.tree == source.commit.tree
    assert commit.anchor == source.commit.anchor
    assert len(rest) == 2
    assert repo.head == "calm"
    assert commit.fork is not None
    origin = tree.parse(repo.store.read(commit.fork, Kind.TREE))
    assert isinstance(origin, tree.Tree)
    assert origin.entries == {"from": str(source.oid), "revision": "main@50"}


def test_a_fork_writes_almost_nothing(history: PlainRepo) -> None:
    before = history.repo.store.stats().stored_bytes
    call("fork", "main@100", "calm")
    assert history.reopen().store.stats().stored_bytes - before < 16 << 10


def test_the_manifest_lists_the_fork(history: PlainRepo) -> None:
    call("fork", "main@100", "calm")
    manifest = json.loads((history.workspace / "gpt" / "manifest.json").read_text())
    assert "calm@100" in [entry["ref"] for entry in manifest["checkpoints"]]


def test_a_view_file_is_added_if_the_repo_has_view_files(history: PlainRepo) -> None:
    call("view", "rebuild", "--mode", "thin")
    call("fork", "main@100", "calm")
    assert (history.workspace / "gpt" / "ckpt_calm_s100.pt").is_file()


@pytest.mark.parametrize(
    "option",
    [
        ["--reset-optimizer"],
        ["--reset-scheduler"],
        ["--reset-rng-seed", "0"],
        ["--seed", "0"],
        ["--set", "lr=1"],
        ["--scale-lr", "10"],
        ["--no-strict"],
        ["--partial"],
    ],
    ids=lambda option: option[0],
)
def test_options_that_need_a_run_are_refused_without_one(
    option: list[str], history: PlainRepo
) -> None:
    assert "-- CMD" in call("fork", "main@50", "calm", *option, code=2).stderr
    assert "calm" not in history.reopen().branches()


def test_nothing_is_written_in_another_programs_folder(history: PlainRepo) -> None:
    Path(history.repo.path, "ckpt_main_s7.pt").write_bytes(b"not ours")
    assert "gradient import" in call("fork", "main@50", "calm", code=5).stderr
    assert "calm" not in history.reopen().branches()
