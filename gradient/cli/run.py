"""`gradient run`: the line for a job that is requeued until it is done."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace

import click

from gradient.cli import launch
from gradient.cli.completion_words import complete_branch
from gradient.cli.launch import LaunchCommand
from gradient.cli.repo_options import find_place, is_named, open_repository, place_options
from gradient.engine.launch_env import Handoff
from gradient.errors import ContextError
from gradient.repo import branch_names
from gradient.repo import workspace as workspaces
from gradient.repo.discovery import locate


@click.command("run", cls=LaunchCommand)
@place_options
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
    words = launch.launched_command(ctx)
    if not words:
        raise click.UsageError("the command to run is missing: gradient run -- CMD", ctx)
    outer = Handoff.read(os.environ)
    elsewhere = _is_elsewhere(ctx, outer)
    branch = branch or (None if elsewhere else outer.branch)
    if branch is not None:
        branch_names.check_branch_name(branch)
    begins = outer.id is not None and outer.resume not in (None, "auto")
    if begins and not elsewhere and branch == outer.branch:
        told = replace(outer, autocommit=autocommit or outer.autocommit)
        # The outer launch is noted, and says how to go on.
        ctx.exit(launch.run(words, launch.environment(os.environ, told)))
    told = Handoff(branch=branch, resume="auto", autocommit=autocommit, id=uuid.uuid4().hex)
    try:
        place = find_place(ctx)
    except ContextError:
        if is_named(ctx):
            raise
        # What CMD attaches to will be made, or chosen, by itself.
        launch.start(ctx, None, told, words)
    if is_named(ctx):
        if workspaces.is_repo(place.repo):
            open_repository(place.repo).check_writable()  # before anything is launched
        told = replace(told, workspace=place.workspace, repo=place.repo_name)
    launch.start(ctx, place, told, words)


def _is_elsewhere(ctx: click.Context, outer: Handoff) -> bool:
    """Tell whether the launch around this one, if there is any, is of another repo."""
    if outer.id is None or outer.repo is None:
        return False
    try:
        return find_place(ctx) != locate(workspace=outer.workspace, repo=outer.repo)
    except ContextError:
        return is_named(ctx)
