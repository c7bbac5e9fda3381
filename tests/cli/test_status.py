from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradient.cli.output import JSON_FIELDS
from gradient.cli.status import command
from gradient.repo import failed_commits
from gradient.repo.branch_writer import BranchWriter
from gradient.storage import fs
from tests.cli.command import ROOT, call
from tests.cli.plain_repo import STATE_BYTES

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def facts(**environment: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call("status", "--json", **environment).stdout)
    return found


def test_json_has_exactly_the_documented_fields(history: PlainRepo) -> None:
    assert list(facts()) == list(getattr(command.callback, JSON_FIELDS))


def test_counts_and_bytes(history: PlainRepo) -> None:
    (history.workspace / "gpt" / "manifest.json").write_text('{"checkpoints": []}')
    found = facts()
    assert (found["checkpoints"], found["anchors"], found["deltas"]) == (5, 3, 2)
    assert found["represented_bytes"] == 5 * STATE_BYTES
    assert found["stored_bytes"] == history.repo.store.stats().stored_bytes
    assert found["missing_view_files"] == 0


def test_the_active_branch_and_its_tip(history: PlainRepo) -> None:
    tip = facts()["tip"]
    assert tip == {
        "id": str(history.repo.tip("main")),
        "revision": "main@100",
        "step": 100,
        "time": "2026-02-10T12:02:56.000000",
        "message": "a milestone\nwith a second line",
        "anchor": "main@0",
        "since_anchor": 2,
        "finite": None,
    }
    assert "2 commits after the anchor main@0" in call("status").stdout
    other = facts(GRADIENT_BRANCH="high_lr")["tip"]
    assert (other["revision"], other["anchor"], other["since_anchor"]) == (
        ("high_lr@60", "high_lr@60", 0)
    )
    history.repo.set_head("high_lr")
    assert facts()["active_branch"] == "high_lr"


def test_branches_and_lines_set_aside(history: PlainRepo) -> None:
    BranchWriter.open(history.repo, "main")
    for record in ["main.old1", "main.run2"]:
        history.repo.refs.append(record, history.repo.tips()["main"], after=None, reason="test")
    found = facts()
    assert [row["name"] for row in found["branches"]] == ["high_lr", "main"]
    assert [row["name"] for row in found["set_aside"]] == ["main.old1", "main.run2"]
    assert found["branches"][0]["fork_point"] == "main@50"
    text = call("status").stdout
    assert "set aside" in text
    assert "main.old1" in text


def test_the_components_add_up(history: PlainRepo) -> None:
    found = facts()
    model, optimizer, other = found["components"]
    assert [each["component"] for each in (model, optimizer, other)] == [
        *("model", "optimizer", "other")
    ]
    assert (model["represented_bytes"], optimizer["stored_bytes"]) == (5 * STATE_BYTES, 0)
    assert model["stored_bytes"] > 4 * STATE_BYTES  # step 50 is there twice
    for name in ("represented_bytes", "stored_bytes", "saved_bytes"):
        assert sum(each[name] for each in found["components"]) == found[name]
    assert found["saved_bytes"] == found["represented_bytes"] - found["stored_bytes"]
    assert found["measured_commits"] == found["checkpoints"]


WRITER = """
import sys, time
from gradient.repo.repository import Repository
lease = Repository.open(sys.argv[1]).leases.acquire()
lease.cover("heads/main")
lease.cover("tags/best")
print("there", flush=True)
time.sleep(60)
"""


def test_a_commit_in_another_process_and_one_that_was_cut_off(history: PlainRepo) -> None:
    assert facts()["unfinished"] == []
    arguments = [sys.executable, "-c", WRITER, history.repo.path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            [writing] = facts()["unfinished"]
            assert (writing["branch"], writing["state"]) == ("main", "writing")
            assert writing["process"] == process.pid
            assert f"main  process {process.pid} is writing a commit" in call("status").stdout
        finally:
            process.kill()
    [cut] = facts()["unfinished"]
    assert cut == {**writing, "state": "cut off"}
    assert "ended while writing a commit; its earlier commits are intact" in call("status").stdout
    time.sleep(1)
    history.commit("main", 200)
    assert facts()["unfinished"] == []


def test_failed_and_skipped_commits(history: PlainRepo) -> None:
    failed_commits.note(history.repo.path, "main", 110, "skipped", "no room")
    failed_commits.note(history.repo.path, "main", 120, "failed", "No space left on device")
    [found] = facts()["missed"]
    assert found.pop("time") > "2026"
    assert found == {
        "branch": "main",
        "step": 120,
        "how": "failed",
        "reason": "No space left on device",
        "failed": 1,
        "skipped": 1,
    }
    text = call("status").stdout
    assert "2 commits not written (1 failed, 1 skipped)" in text
    assert "step 120" in text


def test_a_tip_whose_weights_are_not_finite(history: PlainRepo) -> None:
    assert "NaN" not in call("status").stdout
    history.commit("main", 120, finite=False)
    assert facts()["tip"]["finite"] is False
    text = call("status").stdout
    assert (
        "its weights contain NaN or infinite values; the newest finite commit: main@last-finite"
        in text
    )


def test_free_space_in_commits(history: PlainRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = history.repo.store.stats().stored_bytes
    monkeypatch.setattr(fs, "free_bytes", lambda _: 1000 * (stored // 5) + 1)
    assert facts()["free_commits"] == 1000
    assert "about 1,000 more commits" in call("status").stdout


def test_a_pending_launch_environment(history: PlainRepo) -> None:
    pending = {"GRADIENT_RESUME_REF": "main@50", "GRADIENT_AUTOCOMMIT": "10"}
    assert facts()["pending_handoff"] == {}
    assert facts(**pending)["pending_handoff"] == pending
    assert "GRADIENT_RESUME_REF=main@50" in call("status", **pending).stdout


def test_the_last_run_is_the_newest_commits_command(history: PlainRepo) -> None:
    found = facts()
    assert found["last_run"]["command"] == "python train.py --lr 1e-2"
    assert found["resume_command"] == "gradient resume high_lr@60 -- python train.py --lr 1e-2"
    assert found["resume_command"] in call("status").stdout


def test_the_active_branch_has_its_own_resume_command(
    history: PlainRepo,
) -> None:
    here = "gradient resume main@100 -- python train.py"
    assert facts()["active_command"].startswith(here)
    assert f"\ngo on here  {here}" in call("status").stdout
    call("switch", "high_lr")
    assert facts()["active_command"] is None
    assert "go on here" not in call("status").stdout
    call("switch", "-c", "idea", "main@50")
    call("run", "--", "true")
    assert facts()["active_command"] == "gradient resume idea@50 -- true"


def test_a_launched_command_is_the_last_run(history: PlainRepo) -> None:
    call("resume", "main@50", "--", "true", "with blanks")
    found = facts()
    assert found["last_run"]["command"] == "true 'with blanks'"
    # It did not commit: only the same launch leads there again.
    assert found["resume_command"] == "gradient resume main@50 -- true 'with blanks'"


def test_the_resume_command_works_from_elsewhere(history: PlainRepo, tmp_path: Path) -> None:
    here = str(Path.cwd())
    os.chdir(tmp_path)
    found = json.loads(call("-C", here, "status", "--json").stdout)
    command = "gradient resume high_lr@60 -- python train.py --lr 1e-2"
    assert found["resume_command"] == f"cd {here} && {command}"


def test_the_resume_command_names_a_repo_that_is_not_found_alone(history: PlainRepo) -> None:
    call("repo", "init", "second")
    resume = json.loads(call("-r", "gpt", "status", "--json").stdout)["resume_command"]
    assert resume.startswith(f"gradient -w {history.workspace} -r gpt resume high_lr@60 -- python")


def test_deleted_view_files_are_not_a_loss(history: PlainRepo) -> None:
    entry = {"file": "/elsewhere/ckpt_main_s0.pt", "id": "0" * 64}
    manifest = {"checkpoints": [entry]}
    (history.workspace / "gpt" / "manifest.json").write_text(json.dumps(manifest))
    assert facts()["missing_view_files"] == 1
    text = call("status").stdout
    assert "freed nothing" in text
    assert "gradient view rebuild" in text


def test_a_moved_repo_is_reported_and_corrected_by_a_writing_command(history: PlainRepo) -> None:
    call("view", "rebuild")
    assert not facts()["view_is_elsewhere"]
    manifest = history.workspace.with_name("there") / "gpt" / "manifest.json"
    history.workspace.rename(history.workspace.with_name("there"))
    before = manifest.read_bytes()
    found = facts()
    assert (found["view_is_elsewhere"], found["missing_view_files"]) == (True, 0)
    assert "the view names another folder" in call("status").stdout
    assert manifest.read_bytes() == before
    call("view", "rebuild")
    assert not facts()["view_is_elsewhere"]


def test_a_deleted_manifest_is_not_a_loss(history: PlainRepo) -> None:
    (history.workspace / "gpt" / "manifest.json").unlink(missing_ok=True)
    assert facts()["missing_view_files"] == 1
    assert "1 view file missing. No commit is lost" in call("status").stdout


@pytest.mark.parametrize("torn", ["", "[]", '{"checkpoints": [{"file"'])
def test_a_torn_manifest_changes_nothing(history: PlainRepo, torn: str) -> None:
    (history.workspace / "gpt" / "manifest.json").write_text(torn)
    assert facts()["missing_view_files"] == 0


def test_an_empty_repo(empty_repo: PlainRepo) -> None:
    found = facts()
    assert (found["tip"], found["free_commits"], found["last_run"]) == (None, None, None)
    assert "no commits on it yet" in call("status").stdout


def test_nothing_is_written(history: PlainRepo) -> None:
    before = sorted(path.as_posix() for path in history.workspace.rglob("*"))
    for path in history.workspace.rglob("*"):
        if path.is_dir():
            path.chmod(0o555)
    try:
        call("status")
    finally:
        for path in history.workspace.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
    assert sorted(path.as_posix() for path in history.workspace.rglob("*")) == before


def test_a_damaged_pack_is_an_integrity_finding(history: PlainRepo) -> None:
    packs = history.workspace / "gpt" / ".gradient-repo" / "objects" / "pack"
    for pack in packs.glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes()[:-40])
    assert "(needed by high_lr (" in call("status", code=3).stderr


def test_a_repo_that_vanished_is_not_found(history: PlainRepo) -> None:
    shutil.rmtree(history.workspace / "gpt")
    call("-r", "gpt", "status", code=4)


def test_the_resume_command_names_the_newest_commit_of_a_launched_command(
    history: PlainRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.objects.timestamp.now", lambda: "2026-02-10T12:03:57.000000")
    call("fork", "main@50", "hot", "--scale-lr", "10", "--", "true")
    command = "gradient resume high_lr@60 -- python train.py --lr 1e-2"
    assert facts()["resume_command"] == command
    monkeypatch.setattr("gradient.objects.timestamp.now", lambda: "2026-02-10T12:05:00.000000")
    call("fork", "main@50", "hot", "--scale-lr", "10", "--", "true")
    assert facts()["resume_command"] == "gradient fork main@50 hot --scale-lr 10 -- true"
