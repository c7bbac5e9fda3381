from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.errors import ContextError, InvalidNameError
from gradient.repo.discovery import (
    Location,
    find_repo,
    find_workspace,
    locate,
    locate_workspace,
    resolve_context,
)
from gradient.repo.workspace import create_repo, init_workspace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def workspace(path: Path, *repos: str) -> Path:
    init_workspace(path)
    for repo in repos:
        create_repo(path / repo)
    return path


def test_upwards(here: Path) -> None:
    root = workspace(here / "ws", "gpt")
    deep = root / "gpt" / "logs" / "today"
    deep.mkdir(parents=True)

    assert find_workspace(deep) == str(root)
    assert find_repo(deep) == str(root / "gpt")
    assert find_workspace(str(root)) == str(root)
    assert find_repo(root) is None


def test_nothing_around(here: Path) -> None:
    assert find_workspace() is None
    assert find_repo() is None
    context = resolve_context()
    assert (context.in_workspace, context.in_repo) == (False, False)


def test_context(here: Path) -> None:
    root = workspace(here / "ws", "gpt", "bert")

    context = resolve_context(root / "gpt")

    assert (context.in_workspace, context.in_repo) == (True, True)
    assert (context.workspace_path, context.repo_path) == (str(root), str(root / "gpt"))
    assert context.workspace_config is not None
    assert context.workspace_config.repos == ["bert", "gpt"]
    assert context.repo_config is not None
    assert context.repo_config.name == "gpt"


def test_both_named_need_not_exist(here: Path) -> None:
    place = locate(workspace="ws", repo="gpt")

    assert place == Location(str(here / "ws"), str(here / "ws" / "gpt"))
    assert place.repo_name == "gpt"
    assert not (here / "ws").exists()


def test_a_repo_is_known_by_its_folder_and_by_its_name(here: Path) -> None:
    root = workspace(here / "ws", "gpt")
    create_repo(root / "folder", name="Bert")

    assert locate(workspace=root, repo="gpt").repo == str(root / "gpt")
    assert locate(workspace=root, repo="folder").repo == str(root / "folder")
    assert locate(workspace=root, repo="Bert").repo == str(root / "folder")


def test_a_repo_named_inside_a_workspace(here: Path) -> None:
    root = workspace(here, "gpt")

    assert locate(root / "gpt", repo="new") == Location(str(root), str(root / "new"))


def test_a_repo_named_beside_the_only_workspace(here: Path) -> None:
    root = workspace(here / "ws", "gpt")

    assert locate(repo="new") == Location(str(root), str(root / "new"))


def test_only_the_workspace_named(here: Path) -> None:
    root = workspace(here / "ws", "gpt")
    assert locate(workspace="ws").repo == str(root / "gpt")

    create_repo(root / "bert")
    with pytest.raises(ContextError, match="-r NAME") as caught:
        locate(workspace="ws")
    assert caught.value.candidates == ("bert", "gpt")
    assert locate(root / "bert", workspace=root).repo == str(root / "bert")


def test_in_a_repo(here: Path) -> None:
    root = workspace(here / "ws", "gpt", "bert")

    assert locate(root / "bert") == Location(str(root), str(root / "bert"))


def test_a_repo_without_a_workspace(here: Path) -> None:
    create_repo(here / "gpt")

    assert locate(here / "gpt") == Location(str(here), str(here / "gpt"))


def test_the_only_repo_of_the_workspace_around_or_below(here: Path) -> None:
    root = workspace(here / "ws", "gpt")

    assert locate(root).repo == str(root / "gpt")
    assert locate().repo == str(root / "gpt")
    assert locate_workspace() == str(root)


def test_several_workspaces_below(here: Path) -> None:
    roots = [workspace(here / name, "gpt") for name in ("a", "b")]

    with pytest.raises(ContextError, match="-w PATH") as caught:
        locate()
    assert caught.value.candidates == tuple(map(str, roots))
    with pytest.raises(ContextError):
        locate(repo="gpt")


@pytest.mark.parametrize("made", [True, False])
def test_nothing_to_be_found_names_the_remedies(here: Path, *, made: bool) -> None:
    if made:
        workspace(here)
    with pytest.raises(ContextError, match="repo init NAME"):
        locate()


def test_a_folder_that_is_not_there_is_named(here: Path) -> None:
    with pytest.raises(ContextError, match=r"no workspace .*gone\. To make it: gradient"):
        locate(workspace="gone")
    with pytest.raises(ContextError, match=r"there is no folder .*gone$"):
        locate("gone")


@pytest.mark.parametrize("name", ["../x", "a/b", ".."])
def test_a_repos_name_stays_in_its_workspace(here: Path, name: str) -> None:
    with pytest.raises(InvalidNameError):
        locate(workspace="ws", repo=name)
