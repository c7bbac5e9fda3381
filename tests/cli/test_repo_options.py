from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradient.cli.output import JSON_FIELDS
from gradient.cli.repo import list_
from gradient.cli.workspace import status
from tests.cli.command import call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def found(*words: str, **environment: str) -> str:
    path: str = json.loads(call(*words, "status", "--json", **environment).stdout)["path"]
    return path


def test_found_beside_inside_and_below(history: PlainRepo) -> None:
    repo = str(history.workspace / "gpt")
    below = history.workspace / "gpt" / "notes" / "deep"
    below.mkdir(parents=True)
    for folder in (Path.cwd(), history.workspace, history.workspace / "gpt", below):
        os.chdir(folder)
        assert found() == repo


def test_options_before_and_after_the_command(history: PlainRepo, tmp_path: Path) -> None:
    beside = str(Path.cwd())
    os.chdir(tmp_path)
    repo = str(history.workspace / "gpt")
    words = ["-w", str(history.workspace), "-r", "gpt"]
    assert found(*words) == repo
    assert json.loads(call("status", "--json", *words).stdout)["path"] == repo
    assert found("-C", beside) == repo
    assert json.loads(call("status", "--json", "-C", beside).stdout)["path"] == repo


def test_options_win_over_the_environment(history: PlainRepo) -> None:
    call("repo", "init", "other")
    both = {"GRADIENT_WORKSPACE": str(history.workspace), "GRADIENT_REPO": "gpt"}
    assert found(**both) == str(history.workspace / "gpt")
    assert found("-r", "other", **both) == str(history.workspace / "other")


def test_a_missing_workspace_is_named(history: PlainRepo) -> None:
    err = call("-w", "gone", "status", code=4).stderr
    assert err.startswith(
        f"error: there is no workspace {Path.cwd() / 'gone'}. To make it: gradient"
    )


def test_a_repo_outside_a_workspace(history: PlainRepo) -> None:
    assert "there is no workspace" in call("-w", "gone", "-r", "gpt", "log", code=4).stderr
    assert "; it has: gpt" in call("-r", "gone", "log", code=4).stderr


def test_several_are_listed_with_the_flag(history: PlainRepo) -> None:
    call("repo", "init", "other")
    err = call("status", code=4).stderr
    assert "gpt, other" in err
    assert "-r NAME" in err
    call("workspace", "init", "ws2")
    err = call("status", code=4).stderr
    assert str(history.workspace) in err
    assert "-w PATH" in err


def test_a_missing_named_repo(history: PlainRepo) -> None:
    assert "it has: gpt" in call("-r", "gtp", "status", code=4).stderr


def test_workspace_init(tmp_path: Path) -> None:
    result = call("workspace", "init", "lab", "--name", "My lab")
    assert "My lab" in result.stdout
    assert "gradient -C lab repo init NAME" in result.stderr
    assert Path("lab/.gradient/config.json").is_file()
    assert "My lab" in call("workspace", "init", "lab", "--name", "Another").stdout


def test_workspace_init_elsewhere(tmp_path: Path) -> None:
    call("workspace", "init", "lab")
    there = Path.cwd() / "lab"
    result = call("-C", "lab", "workspace", "init", "deep")
    assert result.stdout == f"workspace deep at {there / 'deep'}\n"
    assert result.stderr == "next: gradient -C lab/deep repo init NAME\n"
    assert call("-w", "lab", "workspace", "init").stdout == f"workspace lab at {there}\n"
    assert not Path(".gradient").exists()


def test_a_repo_cannot_become_a_workspace(history: PlainRepo) -> None:
    repo = history.workspace / "gpt"
    err = call("-C", str(repo), "workspace", "init", code=4).stderr
    assert err == (
        f"error: {repo} is a repo; a workspace is a folder that holds repos: {history.workspace}\n"
    )
    assert not (repo / ".gradient").exists()


def test_workspace_init_here() -> None:
    call("workspace", "init")
    assert Path(".gradient/config.json").is_file()


def test_repo_init_and_list(empty_repo: PlainRepo) -> None:
    call("repo", "init", "bert", "-d", "masked")
    assert (empty_repo.workspace / "bert" / "manifest.json").is_file()
    listed = json.loads(call("repo", "list", "--json").stdout)
    assert list(listed) == list(getattr(list_.callback, JSON_FIELDS))
    assert [(repo["name"], repo["description"]) for repo in listed["repos"]] == [
        ("bert", "masked"),
        ("gpt", "a tiny model"),
    ]
    assert [line.split()[0] for line in call("repo", "list").stdout.splitlines()] == ["bert", "gpt"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-r"])
def test_repo_init_refuses_names_that_would_escape(name: str, empty_repo: PlainRepo) -> None:
    call("repo", "init", "--", name, code=2)
    assert [path.name for path in empty_repo.workspace.iterdir() if path.name != ".gradient"] == [
        "gpt"
    ]


def test_repo_init_needs_a_workspace() -> None:
    assert "gradient workspace init" in call("repo", "init", "gpt", code=4).stderr


def test_workspace_status(history: PlainRepo) -> None:
    call("repo", "init", "empty")
    facts = json.loads(call("workspace", "status", "--json").stdout)
    assert list(facts) == list(getattr(status.callback, JSON_FIELDS))
    empty, gpt = facts["repos"]
    assert (empty["checkpoints"], empty["branches"], empty["error"]) == (0, {}, None)
    assert gpt["branches"] == {"high_lr": 60, "main": 100}
    assert (gpt["checkpoints"], gpt["anchors"], gpt["deltas"]) == (5, 3, 2)
    documented = getattr(status.callback, JSON_FIELDS)["repos"]
    assert all(f"`{name}`" in documented for name in gpt)
    text = call("workspace", "status").stdout
    assert "no commits yet" in text
    assert "5 commits (3 anchors, 2 deltas)" in text


def test_workspace_status_shows_the_others_when_one_cannot_be_read(history: PlainRepo) -> None:
    folder = history.workspace / "published" / ".gradient-repo"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"repo_name": "published"}')
    facts = json.loads(call("workspace", "status", "--json").stdout)
    gpt, published = facts["repos"]
    assert gpt["checkpoints"] == 5
    assert "gradient import" in published["error"]
    assert published["checkpoints"] is None
    assert "cannot be read" in call("workspace", "status").stdout


def test_the_published_package_s_path_option(history: PlainRepo, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    call("workspace", "status", "--path", str(history.workspace))
    call("repo", "list", "--path", str(history.workspace))
