"""`gradient switch`: choose the active branch."""

from __future__ import annotations

import os

import click

from gradient.cli import output
from gradient.cli.complete import complete_branch
from gradient.cli.place import find_repository, place_options
from gradient.engine import handoff
from gradient.repo import names


@click.command("switch")
@place_options
@click.argument("branch", shell_complete=complete_branch)
@click.pass_context
def command(ctx: click.Context, branch: str) -> None:
    """Make BRANCH the active one.

    That is what `latest` means, and where a new run commits to.

    \b
    Example:
      gradient switch high_lr
    """
    repo = find_repository(ctx)
    repo.check_writable()
    names.check_branch_name(branch)
    tip = repo.resolve(f"{branch}@latest")
    repo.set_head(branch)
    output.line(f"on branch {output.strong(branch)} at step {tip.commit.step}")
    override = os.environ.get(handoff.BRANCH)
    if override and override != branch:
        output.note(f"{handoff.BRANCH}={override} is set and still wins in this shell")
