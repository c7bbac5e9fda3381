from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cli.command import call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo

PLANNED = """\
kept: 3 commits
  high_lr@60  <high_lr@60>  tip of high_lr, last 1, last finite of high_lr
  main@100    <main@100>  tip of main, last 1, last finite of main
  main@50     <main@50>  lines part there
would be forgotten: 2 commits
"""


def test_a_dry_run_prints_the_reasons(history: PlainRepo) -> None:
    printed = call("forget", "--keep-last", "1", "-n").output
    for revision in ("high_lr@60", "main@100", "main@50"):
        printed = printed.replace(history.repo.resolve(revision).oid.short, f"<{revision}>")
    assert printed.startswith(PLANNED)
    assert " once the trash is empty" in printed
    assert printed.endswith("nothing was changed; to do it, leave out -n\n")
    assert history.repo.storage.names("retention") == []


def test_the_output_ends_with_the_trash(history: PlainRepo) -> None:
    call("view", "rebuild")
    view = history.workspace / Path(history.repo.path).name
    assert (view / "ckpt_main_s0.pt").exists()
    printed = call("forget", "--keep-last", "1", "--keep-tagged").output
    assert "forgotten: 2 commits" in printed
    assert "in the trash until 2" in printed
    assert printed.endswith(
        "bring it back: gradient gc --undo; free it now: gradient gc --grace 0\n"
    )
    assert not (view / "ckpt_main_s0.pt").exists()
    entries = json.loads((view / "manifest.json").read_text())["checkpoints"]
    assert {each["ref"] for each in entries if "forgotten" in each} == {"main@0", "high_lr@50"}
    assert "removed for good" in call("gc", "--grace", "0").output
    call("fsck")
    assert "forgotten: 0 commits (2 before)" in call("forget", "--keep-last", "1").output


def test_forgotten_state_is_restored_from_the_trash_and_kept_by_a_tag(history: PlainRepo) -> None:
    call("forget", "--keep-last", "1")
    call("tag", "old", "main@0", code=5)
    call("gc", "--undo")
    call("tag", "old", "main@0")
    call("gc", "--grace", "0")
    call("ls-tree", "old")
    call("fork", "old", "again")
    call("fsck")


def test_json(history: PlainRepo) -> None:
    found = json.loads(call("forget", "--keep-every", "50", "--drop", "model", "--json").output)
    assert [each["revision"] for each in found["forgotten"]] == []
    assert found["policy"] == "--keep-every 50 --drop model"
    words = ("forget", "--keep-last", "1", "--drop", "model", "--grace", "0", "--json")
    found = json.loads(call(*words).output)
    assert {each["revision"] for each in found["forgotten"]} == {"main@0", "high_lr@50"}
    assert found["kept"][0]["reasons"] == ["tip of high_lr", "last 1", "last finite of high_lr"]
    assert found["collected"]["in_trash"] == 0
    assert "without model" in call("log", "--all", "--oneline").output


def test_a_rule_is_needed(history: PlainRepo) -> None:
    assert "name what to keep" in call("forget", code=2).output
    assert "name what to keep" in call("forget", "--keep-tagged", code=2).output
    assert "names no best" in call("forget", "--keep-best", "loss:0", code=2).output
    assert "time span" in call("forget", "--keep-last", "1", "--keep-aside", "x", code=2).output
    call("forget", "--keep-last", "-1", code=2)
