"""`gradient resume`: run a command that resumes from a commit."""

from __future__ import annotations

import os
import shlex
import uuid
from dataclasses import replace

import click

from gradient.cli import launch, output
from gradient.cli.completion_words import complete_revision
from gradient.cli.launch import LaunchCommand
from gradient.cli.repo_options import (
    active_branch,
    find_location,
    find_repository,
    location_options,
)
from gradient.engine.launch_env import OWNED, LaunchEnv


@click.command("resume", cls=LaunchCommand)
@location_options
@click.argument("ref", shell_complete=complete_revision)
@click.option("--reset-optimizer", is_flag=True, help="Start with empty optimizer state.")
@click.pass_context
def command(ctx: click.Context, ref: str, reset_optimizer: bool) -> None:
    """Run CMD so that its training resumes from REF.

    REF is a revision: main@100, main, latest, main~2, a tag, a commit id. It is resolved before
    CMD starts. Without CMD, nothing is changed: the launch variables are printed as export lines,
    for eval "$(gradient resume REF)".

    \b
    Examples:
      gradient resume main@100 -- python train.py
      eval "$(gradient resume latest)"
    """
    repo = find_repository(ctx)
    active = active_branch(repo)
    resolved = repo.resolve(ref, branch=active)
    repo.check_kept(resolved.oid, components=() if reset_optimizer else ("optimizer",))
    location = find_location(ctx)
    launch_env = LaunchEnv(
        workspace=location.workspace,
        repo=location.repo_name,
        branch=resolved.branch or active,
        resume=ref,
        reset_optimizer=reset_optimizer,
    )
    argv = launch.launched_command(ctx)
    if argv:
        launch.start(ctx, location, replace(launch_env, id=uuid.uuid4().hex), argv)
    variables = launch_env.to_environ()
    for name in OWNED:
        if name not in variables and name in os.environ:
            output.line(f"unset {name}")
    for name, value in variables.items():
        output.line(f"export {name}={shlex.quote(value)}")
    option = "--reset-optimizer " if reset_optimizer else ""
    output.note(f"# nothing was changed; to run a command: gradient resume {option}{ref} -- CMD")
