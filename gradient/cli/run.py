"""`gradient run`: resume a job that is requeued until it is done, or start it."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace

import click

from gradient.cli import launch
from gradient.cli.completion_words import complete_branch
from gradient.cli.launch import LaunchCommand
from gradient.cli.repo_options import find_location, is_named, location_options, open_repository
from gradient.engine.launch_env import LaunchEnv
from gradient.errors import ContextError
from gradient.repo import branch_names
from gradient.repo import workspace as workspaces
from gradient.repo.discovery import locate


@click.command("run", cls=LaunchCommand)
@location_options
@click.option(
    "--branch", metavar="BRANCH", shell_complete=complete_branch, help="The branch to train on."
)
@click.option(
    "--autocommit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Commit every N steps, unless the script sets its own interval.",
)
@click.pass_context
def command(ctx: click.Context, branch: str | None, autocommit: int | None) -> None:
    """Run CMD from the latest commit, or from scratch.

    It starts from scratch if there is no commit yet. Use it for a job that is requeued until it is
    done.

    Inside a command launched by `resume`, `fork`, `verify` or `bisect run` (a job script, for
    example), `gradient run` continues that launch: its commit and branch apply unless options name
    another branch or repo.

    CMD chooses the repo when it attaches, unless an option or the environment names one. The repo
    need not exist yet.

    \b
    Example:
      gradient run -- python train.py
    """
    argv = launch.launched_command(ctx)
    if not argv:
        raise click.UsageError("the command to run is missing: gradient run -- CMD", ctx)
    outer = LaunchEnv.read(os.environ)
    other_repo = _names_other_repo(ctx, outer)
    branch = branch or (None if other_repo else outer.branch)
    if branch is not None:
        branch_names.check_branch_name(branch)
    starts_from_revision = outer.id is not None and outer.resume not in (None, "auto")
    if starts_from_revision and not other_repo and branch == outer.branch:
        launch_env = replace(outer, autocommit=autocommit or outer.autocommit)
        # The outer launch is recorded already, and prints the hint how to go on.
        ctx.exit(launch.run(argv, launch.environment(os.environ, launch_env)))
    launch_env = LaunchEnv(branch=branch, resume="auto", autocommit=autocommit, id=uuid.uuid4().hex)
    try:
        location = find_location(ctx)
    except ContextError:
        if is_named(ctx):
            raise
        # CMD chooses or creates the repo when it attaches.
        launch.start(ctx, None, launch_env, argv)
    if is_named(ctx):
        if workspaces.is_repo(location.repo):
            open_repository(location.repo).check_writable()  # before anything is launched
        launch_env = replace(launch_env, workspace=location.workspace, repo=location.repo_name)
    launch.start(ctx, location, launch_env, argv)


def _names_other_repo(ctx: click.Context, outer: LaunchEnv) -> bool:
    """Return whether this launch names another repo than the launch around it."""
    if outer.id is None or outer.repo is None:
        return False
    try:
        return find_location(ctx) != locate(workspace=outer.workspace, repo=outer.repo)
    except ContextError:
        return is_named(ctx)
