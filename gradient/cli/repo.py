"""`gradient repo init` and `gradient repo list`."""

from __future__ import annotations

from pathlib import PurePath

import click

from gradient.cli import output
from gradient.cli.output import json_option
from gradient.cli.repo_options import find_workspace, location_options, old_path_option
from gradient.repo.config import check_folder_name
from gradient.repo.workspace import load_repo
from gradient.view.init_repo import init_repo


@click.group("repo")
def command() -> None:
    """Create and list repos: each is the history of one model.

    \b
    Example:
      gradient repo init gpt
    """


@command.command("init")
@location_options
@click.argument("name")
@click.option("-d", "--description", metavar="TEXT", help="A description of the model.")
@click.pass_context
def init(ctx: click.Context, name: str, description: str | None) -> None:
    """Create the repo NAME in the workspace.

    An existing repo is not changed.

    \b
    Example:
      gradient -w runs repo init gpt --description "a tiny model"
    """
    workspace = find_workspace(ctx)
    check_folder_name(name)
    path = str(PurePath(workspace.root_path, name))
    config = init_repo(path, name, description, workspace.root_path)
    output.line(f"repo {output.bold(config.name)} at {config.repo_path}")


@command.command("list")
@location_options
@old_path_option
@json_option(
    {
        "workspace": "the workspace's name",
        "path": "its folder, absolute",
        "repos": "one object per repo: `name`, `path`, `description`, `created_at`",
    }
)
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List the repos of the workspace.

    \b
    Example:
      gradient repo list --json
    """
    workspace = find_workspace(ctx)
    paths = [str(PurePath(workspace.root_path, name)) for name in workspace.repos]
    repos = [config for config in map(load_repo, paths) if config is not None]
    if as_json:
        output.document(
            {
                "workspace": workspace.name,
                "path": workspace.root_path,
                "repos": [
                    {
                        "name": PurePath(config.repo_path).name,
                        "path": config.repo_path,
                        "description": config.description or "",
                        "created_at": config.created_at,
                    }
                    for config in repos
                ],
            }
        )
        return
    if not repos:
        output.note("no repos yet: gradient repo init NAME")
        return
    output.table(
        [(PurePath(config.repo_path).name, config.description or "") for config in repos], indent=0
    )
