"""`gradient workspace init` and `gradient workspace status`."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import click

from gradient.cli import output
from gradient.cli.output import json_option
from gradient.cli.repo_options import (
    RepoOptions,
    find_workspace,
    location_options,
    old_path_option,
)
from gradient.errors import GradientError
from gradient.maintenance.logical_size import weigh
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.repo.workspace import init_workspace


@click.group("workspace")
def command() -> None:
    """Create and inspect workspaces: folders that hold repos.

    \b
    Example:
      gradient workspace init runs
    """


@command.command("init")
@click.argument("path", required=False)
@click.option("--name", help="The workspace's name; by default the folder's name.")
@click.pass_context
def init(ctx: click.Context, path: str | None, name: str | None) -> None:
    """Make PATH (by default the current folder) a workspace.

    An existing workspace is not changed.

    \b
    Example:
      gradient workspace init runs --name experiments
    """
    options = ctx.ensure_object(RepoOptions)
    folder = path or options.workspace or "."
    config = init_workspace(PurePath(options.directory or ".", folder), name)
    output.line(f"workspace {output.bold(config.name)} at {config.root_path}")
    if not config.repos:
        there = str(PurePath(options.directory or ".", folder))
        output.note(f"next: gradient{'' if there == '.' else f' -C {there}'} repo init NAME")


@command.command("status")
@location_options
@old_path_option
@json_option(
    {
        "workspace": "the workspace's name",
        "path": "its folder, absolute",
        "created_at": "when it was created, UTC",
        "repos": "one object per repo: `name`, `path`, `description`, `checkpoints`, `anchors`, "
        "`deltas`, `stored_bytes`, `branches` (name to latest step), and `error` (text or null; "
        "if it is text, the numbers are null)",
    }
)
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Show the workspace's repos with their branches and sizes.

    \b
    Example:
      gradient -w runs workspace status
    """
    config = find_workspace(ctx)
    repos = [_describe(str(PurePath(config.root_path, name))) for name in config.repos]
    if as_json:
        output.document(
            {
                "workspace": config.name,
                "path": config.root_path,
                "created_at": config.created_at,
                "repos": repos,
            }
        )
        return
    output.line(f"workspace {output.bold(config.name)} at {config.root_path}")
    if not repos:
        output.line("no repos yet: gradient repo init NAME")
    for repo in repos:
        output.line()
        _print(repo)


def _describe(path: str) -> dict[str, Any]:
    """Return the JSON fields of one repo; `error` gives the reason if it cannot be read."""
    entry: dict[str, Any] = {"name": PurePath(path).name, "path": path, "description": None}
    numbers = ("checkpoints", "anchors", "deltas", "stored_bytes", "branches")
    try:
        repo = Repository.open(path)
        history = History(repo, on_damage="skip")
        weight = weigh(repo, history)
    except GradientError as error:
        return entry | dict.fromkeys(numbers) | {"error": str(error)}
    return entry | {
        "description": repo.config.description or "",
        "checkpoints": weight.commits,
        "anchors": weight.anchors,
        "deltas": weight.deltas,
        "stored_bytes": weight.stored_bytes,
        "branches": {each.branch: each.step for each in history.summaries()},
        "error": None,
    }


def _print(repo: dict[str, Any]) -> None:
    about = f"  {repo['description']}" if repo["description"] else ""
    output.line(f"{output.bold(repo['name'])}{about}")
    if repo["error"] is not None:
        output.line(f"  cannot be read: {repo['error']}")
        return
    if not repo["branches"]:
        output.line("  no commits yet")
        return
    counts = output.plural(repo["checkpoints"], "commit")
    kinds = f"{output.plural(repo['anchors'], 'anchor')}, {output.plural(repo['deltas'], 'delta')}"
    output.line(f"  {counts} ({kinds}), {output.size(repo['stored_bytes'])}")
    output.table(
        [(name, f"step {step}") for name, step in repo["branches"].items()],
        indent=4,
    )
