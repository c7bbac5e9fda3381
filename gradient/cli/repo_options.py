"""Which workspace and repo a command means: its options, then the environment, then discovery."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gradient.engine import launch_env
from gradient.errors import ContextError, GradientError
from gradient.repo import workspace as workspaces
from gradient.repo.config import WorkspaceConfig
from gradient.repo.discovery import Location, check_workspace, locate, locate_workspace
from gradient.repo.trust import Trust
from gradient.storage import fs

if TYPE_CHECKING:
    from gradient.repo.repository import Repository

_Function = TypeVar("_Function", bound=Callable[..., Any])

OPENED = "gradient.cli.repo_options.opened"
"""The key in a context's `meta` of the repo that its command opened."""


@dataclass
class RepoOptions:
    """What the options said; the ones after the command win over the ones before it."""

    workspace: str | None = None
    """``-w``: the workspace's folder."""
    repo: str | None = None
    """``-r``: the repo's name."""
    directory: str | None = None
    """``-C``: where discovery starts."""


def place_options(function: _Function) -> _Function:
    """Add ``-w``, ``-r`` and ``-C``, which are accepted before and after the command's name."""
    folder = click.Path(file_okay=False)
    there = click.Path(file_okay=False, exists=True)
    for decorate in (
        click.option(
            "-C",
            "directory",
            type=there,
            metavar="PATH",
            help="Search for the workspace and repo from PATH.",
            expose_value=False,
            callback=_remember,
        ),
        click.option(
            "-r",
            "--repo",
            metavar="NAME",
            help="The repo's name in the workspace.",
            expose_value=False,
            callback=_remember,
            shell_complete=_complete_repo,
        ),
        click.option(
            "-w",
            "--workspace",
            type=folder,
            metavar="PATH",
            help="The workspace's folder.",
            expose_value=False,
            callback=_remember,
        ),
    ):
        function = decorate(function)
    return function


def old_path_option(function: _Function) -> _Function:
    """Add ``--path``, as the published package called ``-C`` on some commands."""
    return click.option("--path", "directory", hidden=True, expose_value=False, callback=_remember)(
        function
    )


def find_place(ctx: click.Context) -> Location:
    """Return the repo that is meant, which need not exist; raises ContextError."""
    wanted = ctx.ensure_object(RepoOptions)
    return locate(
        wanted.directory or ".",
        workspace=wanted.workspace or os.environ.get(launch_env.WORKSPACE) or None,
        repo=wanted.repo or os.environ.get(launch_env.REPO) or None,
    )


def find_workspace(ctx: click.Context) -> WorkspaceConfig:
    """Return the workspace that is meant; raises ContextError where it is none."""
    wanted = ctx.ensure_object(RepoOptions)
    named = wanted.workspace or os.environ.get(launch_env.WORKSPACE) or None
    return workspaces.open_workspace(
        fs.absolute(named) if named else locate_workspace(wanted.directory or ".")
    )


def find_repository(ctx: click.Context) -> Repository:
    """Open the repo that is meant; raises ContextError where it does not exist."""
    place = find_place(ctx)
    if not workspaces.is_repo(place.repo):
        check_workspace(place.workspace)
        repos = workspaces.list_repos(place.workspace)
        there = f"it has: {', '.join(repos)}" if repos else "it has none yet"
        raise ContextError(
            f"no repo {place.repo_name!r} in the workspace {place.workspace}; {there}", repos
        )
    repo = open_repository(place.repo)
    ctx.meta[OPENED] = repo
    return repo


def open_repository(path: str) -> Repository:
    """Open a repo, to be written to as far as the environment says that its owner is trusted."""
    # Here alone: numpy is a third of what `gradient --help` would take.
    from gradient.repo.repository import Repository

    return Repository.open(path, trust=trust())


def trust() -> Trust:
    """Return whose repos the environment lets us write to."""
    return Trust.read(os.environ)


def active_branch(repo: Repository) -> str:
    """Return the branch that is meant where none is named."""
    return repo.active_branch(os.environ.get(launch_env.BRANCH) or None)


def is_named(ctx: click.Context) -> bool:
    """Tell whether options or environment say which repo is meant."""
    wanted = ctx.ensure_object(RepoOptions)
    said = (wanted.workspace, wanted.repo, wanted.directory)
    return any(said) or any(
        os.environ.get(name) for name in (launch_env.WORKSPACE, launch_env.REPO)
    )


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    wanted = ctx.ensure_object(RepoOptions)
    if value is not None and param.name is not None:
        setattr(wanted, param.name, value)


def _complete_repo(
    ctx: click.Context,
    param: click.Parameter,
    incomplete: str,
) -> list[str]:
    try:
        return [name for name in find_workspace(ctx).repos if name.startswith(incomplete)]
    except GradientError:
        return []
