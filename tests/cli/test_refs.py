"""The changes of `branch`, and `tag`, `reset` and `reflog`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gradient.cli import reflog, tag
from tests.cli.command import call
from tests.cli.stable_output import fields, printed

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def test_a_branch_is_created_renamed_and_deleted(history: PlainRepo) -> None:
    assert printed(history, "branch", "idea", "main@50") == "idea is at main@50\n"
    assert history.reopen().tip("idea") == history.repo.resolve("main@50").oid
    assert call("branch", "-m", "idea", "try").stdout == "renamed idea to try\n"
    result = call("branch", "-d", "try")
    assert "deleted branch try" in result.stdout
    assert "gradient branch try 'try@{0}'" in result.stderr
    call("branch", "try", "try@{0}")
    assert history.reopen().tip("try") == history.repo.resolve("main@50").oid
    manifest = json.loads((history.workspace / "gpt" / "manifest.json").read_text())
    assert len(manifest["checkpoints"]) == 5


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["main"], 5),
        (["a..b"], 2),
        (["x", "gone"], 4),
        (["x", "main", "more"], 2),
        (["-d"], 2),
        (["-d", "main"], 5),
        (["-d", "gone"], 4),
        (["-m"], 2),
        (["-m", "main"], 5),
        (["-m", "main", "high_lr"], 5),
        (["-m", "-d", "main"], 2),
    ],
)
def test_invalid_branch_changes(history: PlainRepo, arguments: list[str], code: int) -> None:
    call("branch", *arguments, code=code)
    assert history.reopen().branches() == ["high_lr", "main"]


@pytest.mark.parametrize("option", ["-a", "--all", "-l", "--list"])
def test_branches_are_listed_as_in_git(history: PlainRepo, option: str) -> None:
    assert call("branch", option).stdout == call("branch").stdout


def test_the_active_branch_is_renamed_as_in_git(history: PlainRepo) -> None:
    assert call("branch", "-m", "trunk").stdout == "renamed main to trunk\n"
    assert history.reopen().branches() == ["high_lr", "trunk"]
    assert history.reopen().resolve("latest").branch == "trunk"


def test_a_branch_is_deleted_as_in_git(history: PlainRepo) -> None:
    assert "deleted branch high_lr" in call("branch", "-D", "high_lr").stdout


def test_branches_with_their_best_metric(history: PlainRepo) -> None:
    lines = call("branch", "--metric", "loss:max").stdout.splitlines()
    assert lines[0].endswith("loss=7.5   best 7.5 at high_lr@60")
    assert lines[1].endswith("loss=12.5  best 12.5 at main@100")
    rows = json.loads(call("branch", "--metric", "loss", "--json").stdout)["branches"]
    assert rows[1]["best"] == {"revision": "main@0", "value": 0.0}
    rows = json.loads(call("branch", "--metric", "acc", "--json").stdout)["branches"]
    assert rows[1]["best"] is None


def test_tags(history: PlainRepo) -> None:
    assert call("tag").stdout == ""
    assert printed(history, "tag", "v1", "-m", "shipped") == "v1 is main@100 (<main@100>)\n"
    call("tag", "first", "main@0")
    assert printed(history, "tag") == (
        "first  main@0    <main@0>\nv1     main@100  <main@100>  shipped\n"
    )
    (first, v1) = json.loads(call("tag", "--json").stdout)["tags"]
    assert v1["message"] == "shipped"
    assert first["revision"] == "main@0"
    assert all(f"`{name}`" in fields(tag.command.callback, "tags") for name in first)
    assert "--force" in call("tag", "v1", "main@0", code=5).stderr
    call("tag", "-f", "v1", "main@0")
    call("tag", "-d", "v1", "main@0", code=2)
    assert "deleted tag v1" in call("tag", "-d", "v1").stdout
    call("tag", "-d", "v1", code=4)
    call("tag", "HEAD", code=2)


def test_a_tag_that_a_branch_hides(history: PlainRepo) -> None:
    assert "high_lr is also a branch" in call("tag", "high_lr", "main@0").stderr
    call("tag", "v1", "main@0")
    assert "v1 is also a tag" in call("branch", "v1", "main@50").stderr
    assert history.reopen().resolve("v1").commit.step == 50
    assert call("tag", "v2").stderr == call("branch", "v3").stderr == ""


def test_tags_as_in_git(history: PlainRepo) -> None:
    call("tag", "-a", "v1", "-m", "shipped")
    assert call("tag", "-l").stdout == call("tag").stdout != ""
    for words in (["-l", "v1"], ["-d"], ["-m", "why"]):
        call("tag", *words, code=2)


def test_reset_sets_the_old_tip_aside(history: PlainRepo) -> None:
    result = call("reset", "main@50")
    assert result.stdout.startswith("main is at main@50")
    assert "set aside as main.old1" in result.stderr
    assert history.reopen().tip("main.old1") == history.repo.resolve("main.old1").oid
    assert call("reset", "main@{1}").stderr == ""
    assert history.reopen().resolve("main").commit.step == 100
    call("reset", "-b", "high_lr", "high_lr~")
    assert history.reopen().resolve("high_lr").commit.step == 50
    call("reset", "gone", code=4)


def test_reflog(history: PlainRepo) -> None:
    call("reset", "main@50")
    lines = printed(history, "reflog", "main").splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["<main@50>", "main@{0}", "main@50"],
        ["<main@100>", "main@{1}", "main@100"],
        ["<main@50>", "main@{2}", "main@50"],
        ["<main@0>", "main@{3}", "main@0"],
    ]
    assert lines[0].endswith("reset to main@50")
    assert len(call("reflog", "-n", "1").stdout.splitlines()) == 1


def test_a_collected_branch_is_not_damage(history: PlainRepo) -> None:
    call("branch", "-D", "high_lr")
    call("gc", "--grace", "0")
    error = call("branch", "back", "high_lr@{0}", code=4).stderr
    assert "which gradient gc has removed since" in error
    assert "has removed since" in call("rev-parse", "high_lr@{0}~1", code=4).stderr


def test_reflog_of_a_deleted_branch(history: PlainRepo) -> None:
    call("branch", "-d", "high_lr")
    found = json.loads(call("reflog", "high_lr", "--json").stdout)
    assert [row["kind"] for row in found["records"]] == ["delete", "move", "move"]
    assert [row["at"] for row in found["records"]] == [None, "high_lr@{0}", "high_lr@{1}"]
    documented = fields(reflog.command.callback, "records")
    assert all(f"`{name}`" in documented for name in found["records"][0])
    assert "and there never was" in call("reflog", "gone", code=4).stderr
