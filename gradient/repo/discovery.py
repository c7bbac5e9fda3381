"""The discovery of the workspace and repo, from explicit names and the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from gradient.errors import ContextError
from gradient.repo import workspace as workspaces
from gradient.repo.config import RepoConfig, WorkspaceConfig, check_folder_name
from gradient.storage import fs

_REMEDIES = (
    "Name both (workspace=…, repo=…; -w and -r on the command line; GRADIENT_WORKSPACE and "
    "GRADIENT_REPO), stand in a repo's folder, or make one: gradient workspace init PATH, then "
    "gradient repo init NAME"
)


@dataclass(frozen=True, slots=True)
class Context:
    """The workspace and the repo around a folder."""

    workspace_path: str | None = None
    """The workspace the folder is in."""
    workspace_config: WorkspaceConfig | None = None
    """The config of that workspace."""
    repo_path: str | None = None
    """The repo the folder is in."""
    repo_config: RepoConfig | None = None
    """The config of that repo."""

    @property
    def in_workspace(self) -> bool:
        """True if the folder is in a workspace."""
        return self.workspace_path is not None

    @property
    def in_repo(self) -> bool:
        """True if the folder is in a repo."""
        return self.repo_path is not None


@dataclass(frozen=True, slots=True)
class Location:
    """A workspace and a repo in it; neither need exist."""

    workspace: str
    """The workspace's folder, absolute."""
    repo: str
    """The repo's folder, absolute."""

    @property
    def repo_name(self) -> str:
        """The name of the repo's folder."""
        return PurePath(self.repo).name


def find_workspace(start: str | os.PathLike[str] = ".") -> str | None:
    """Return the workspace that contains `start`, searching upwards; None without one."""
    return next(filter(workspaces.is_workspace, _upwards(start)), None)


def find_repo(start: str | os.PathLike[str] = ".") -> str | None:
    """Return the repo that contains `start`, searching upwards; None without one."""
    return next(filter(workspaces.is_repo, _upwards(start)), None)


def resolve_context(start: str | os.PathLike[str] = ".") -> Context:
    """Return the workspace and the repo that contain `start`."""
    repo = find_repo(start)
    workspace = find_workspace(start)
    return Context(
        workspace_path=workspace,
        workspace_config=workspaces.load_workspace(workspace) if workspace else None,
        repo_path=repo,
        repo_config=workspaces.load_repo(repo) if repo else None,
    )


def locate(
    start: str | os.PathLike[str] = ".",
    *,
    workspace: str | os.PathLike[str] | None = None,
    repo: str | None = None,
) -> Location:
    """Return the named repo, else the one found upwards, else the only one below.

    A named workspace or repo need not exist. Raises ContextError, with the candidates if there are
    several, with the remedies if there are none.
    """
    if repo is not None:
        check_folder_name(repo)
    if workspace is not None:
        root = fs.absolute(workspace)
        return _named(root, repo) if repo is not None else _only_repo(root, start)
    around = locate_workspace(start) if repo is not None else None
    if around is not None and repo is not None:
        return _named(around, repo)
    inside = find_repo(start)
    if inside is not None:
        return Location(find_workspace(inside) or str(PurePath(inside).parent), inside)
    return _only_repo(locate_workspace(start), start)


def locate_workspace(start: str | os.PathLike[str] = ".") -> str:
    """Return the workspace found upwards, else the only one in a direct subfolder.

    Raises ContextError, with the candidates if there are several, with the remedies if there are
    none.
    """
    above = find_workspace(start)
    if above is not None:
        return above
    root = fs.absolute(start)
    if not fs.is_folder(root):
        raise ContextError(f"there is no folder {root}")
    below = [path for path in _children(root) if workspaces.is_workspace(path)]
    if len(below) == 1:
        return below[0]
    if below:
        raise ContextError(
            f"several workspaces lie below {root}: {', '.join(below)}. Choose one: "
            f"workspace=… in Python, -w PATH on the command line",
            below,
        )
    raise ContextError(f"no workspace or repo at, above or directly below {root}. {_REMEDIES}")


def check_workspace(path: str) -> None:
    """Raise ContextError for a folder that is not a workspace."""
    if not workspaces.is_workspace(path):
        raise ContextError(
            f"there is no workspace {path}. To make it: gradient workspace init {path}; with the "
            f"name of a repo (repo=…), attach makes both"
        )


def _named(workspace: str, repo: str) -> Location:
    """Find a repo by its folder, else by the name in its config; it need not exist."""
    path = str(PurePath(workspace, repo))
    if not workspaces.is_repo(path) and fs.is_folder(workspace):
        for other in workspaces.list_repos(workspace):
            config = workspaces.load_repo(str(PurePath(workspace, other)))
            if config is not None and config.name == repo:
                return Location(workspace, config.repo_path)
    return Location(workspace, path)


def _only_repo(workspace: str, start: str | os.PathLike[str]) -> Location:
    inside = find_repo(start)
    if inside is not None and PurePath(inside).parent == PurePath(workspace):
        return Location(workspace, inside)
    repos = workspaces.list_repos(workspace) if fs.is_folder(workspace) else []
    if len(repos) == 1:
        return Location(workspace, str(PurePath(workspace, repos[0])))
    if repos:
        raise ContextError(
            f"the workspace {workspace} has several repos: {', '.join(repos)}. Choose one: "
            f"repo=… in Python, -r NAME on the command line",
            repos,
        )
    check_workspace(workspace)
    raise ContextError(
        f"the workspace {workspace} has no repo yet. Name the one to make (repo=…), or: "
        f"gradient -C {workspace} repo init NAME"
    )


def _upwards(start: str | os.PathLike[str]) -> Iterator[str]:
    here = PurePath(fs.absolute(start))
    yield str(here)
    yield from map(str, here.parents)


def _children(folder: str) -> list[str]:
    if not fs.is_folder(folder):
        return []
    return [str(PurePath(folder, name)) for name in fs.names(folder)]
