"""The workspace and repo of a command: from its options, the environment, or discovery."""

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
"""The key in a context's `meta` for the repo that the command opened."""


@dataclass
class RepoOptions:
    """The values of the options; options after the command override those before it."""

    workspace: str | None = None
    """``-w``: the workspace's folder."""
    repo: str | None = None
    """``-r``: the repo's name."""
    directory: str | None = None
    """``-C``: the folder where discovery starts."""


def location_options(function: _Function) -> _Function:
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
    """Add ``--path``, the name of ``-C`` on some commands of the published package."""
    return click.option("--path", "directory", hidden=True, expose_value=False, callback=_remember)(
        function
    )


def find_location(ctx: click.Context) -> Location:
    """Return the location of the repo, which need not exist; raises ContextError."""
    options = ctx.ensure_object(RepoOptions)
    return locate(
        options.directory or ".",
        workspace=options.workspace or os.environ.get(launch_env.WORKSPACE) or None,
        repo=options.repo or os.environ.get(launch_env.REPO) or None,
    )


def find_workspace(ctx: click.Context) -> WorkspaceConfig:
    """Return the workspace; raises ContextError if it is not a workspace."""
    options = ctx.ensure_object(RepoOptions)
    named = options.workspace or os.environ.get(launch_env.WORKSPACE) or None
    return workspaces.open_workspace(
        fs.absolute(named) if named else locate_workspace(options.directory or ".")
    )


def find_repository(ctx: click.Context) -> Repository:
    """Open the repo; raises ContextError if it does not exist."""
    location = find_location(ctx)
    if not workspaces.is_repo(location.repo):
        check_workspace(location.workspace)
        repos = workspaces.list_repos(location.workspace)
        there = f"it has: {', '.join(repos)}" if repos else "it has none yet"
        raise ContextError(
            f"no repo {location.repo_name!r} in the workspace {location.workspace}; {there}", repos
        )
    repo = open_repository(location.repo)
    ctx.meta[OPENED] = repo
    return repo


def open_repository(path: str) -> Repository:
    """Open a repo; it is writable if the environment trusts its owner."""
    # Imported here because numpy would take a third of the time of `gradient --help`.
    from gradient.repo.repository import Repository

    return Repository.open(path, trust=trust())


def trust() -> Trust:
    """Return the owners whose repos may be written to, from the environment."""
    return Trust.read(os.environ)


def active_branch(repo: Repository) -> str:
    """Return the branch that applies if the command names none."""
    return repo.active_branch(os.environ.get(launch_env.BRANCH) or None)


def is_named(ctx: click.Context) -> bool:
    """Return whether options or environment variables name the repo."""
    options = ctx.ensure_object(RepoOptions)
    given = (options.workspace, options.repo, options.directory)
    return any(given) or any(
        os.environ.get(name) for name in (launch_env.WORKSPACE, launch_env.REPO)
    )


def _remember(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    options = ctx.ensure_object(RepoOptions)
    if value is not None and param.name is not None:
        setattr(options, param.name, value)


def _complete_repo(
    ctx: click.Context,
    param: click.Parameter,
    incomplete: str,
) -> list[str]:
    try:
        return [name for name in find_workspace(ctx).repos if name.startswith(incomplete)]
    except GradientError:
        return []
