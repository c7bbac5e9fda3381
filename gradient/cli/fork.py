"""`gradient fork`: start a branch at a commit, and run a command on it."""

from __future__ import annotations

import uuid

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
from gradient.engine.fork_options import ForkOptions
from gradient.engine.launch_env import LaunchEnv
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.fork import fork_commit
from gradient.view.updates import add_commit


class Setting(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A param-group option to replace, as ``name=number``."""

    name = "NAME=NUMBER"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | float]:
        """Return the name and the number; an integer stays an integer."""
        if isinstance(value, tuple):
            return value
        name, sign, text = str(value).partition("=")
        if not name or not sign:
            self.fail(f"{value!r} is not NAME=NUMBER, such as lr=1e-2", param, ctx)
        try:
            return name, int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError:
            self.fail(f"{text!r} is not a number", param, ctx)


@click.command("fork", cls=LaunchCommand)
@location_options
@click.argument("ref", shell_complete=complete_revision)
@click.argument("branch")
@click.option("--reset-optimizer", is_flag=True, help="Start with empty optimizer state.")
@click.option("--reset-scheduler", is_flag=True, help="Start the schedule from its beginning.")
@click.option(
    "--reset-rng-seed", type=int, metavar="N", help="Reseed every random generator with N."
)
@click.option("--seed", type=int, hidden=True)
@click.option(
    "--set",
    type=Setting(),
    multiple=True,
    help="Replace a param-group option, such as lr=1e-2. May be repeated.",
)
@click.option("--scale-lr", type=float, metavar="X", help="Multiply every learning rate by X.")
@click.option(
    "--no-strict",
    "strict",
    flag_value=False,
    default=True,
    help="Load the state that fits the model, and report the rest.",
)
@click.option("--partial", is_flag=True, hidden=True)
@click.option(
    "-m", "--message", default="", metavar="TEXT", help="The message of the fork's commit."
)
@click.pass_context
def command(
    ctx: click.Context,
    ref: str,
    branch: str,
    reset_optimizer: bool,
    reset_scheduler: bool,
    reset_rng_seed: int | None,
    seed: int | None,
    set: tuple[tuple[str, int | float], ...],
    scale_lr: float | None,
    strict: bool,
    partial: bool,
    message: str,
) -> None:
    """Start BRANCH at REF, and run CMD on it.

    REF and BRANCH are checked before CMD starts. The options apply to the run that CMD attaches,
    and are recorded in the fork's commit. Without CMD, the branch is created at once and becomes
    the active branch; options that need a live model are then refused.

    \b
    Example:
      gradient fork main@100 high_lr --scale-lr 2 -- python train.py
    """
    options = ForkOptions(
        reset_optimizer=reset_optimizer,
        reset_scheduler=reset_scheduler,
        # `--seed` and `--partial` are the former spellings.
        reset_rng_seed=seed if reset_rng_seed is None else reset_rng_seed,
        set=dict(set) or None,
        scale_lr=scale_lr,
        strict=strict and not partial,
        message=message,
    )
    argv = launch.launched_command(ctx)
    if not argv and options != ForkOptions(message=message):
        raise click.UsageError(
            "the options change a live model and optimizer, so they need a command to run: "
            f"gradient fork {ref} {branch} … -- CMD",
            ctx,
        )
    repo = find_repository(ctx)
    resolved = repo.resolve(ref, branch=active_branch(repo))
    repo.check_kept(resolved.oid, components=() if reset_optimizer else ("optimizer",))
    BranchWriter.create(repo, branch)
    repo.check_writable()
    if argv:
        location = find_location(ctx)
        launch_env = LaunchEnv(
            workspace=location.workspace,
            repo=location.repo_name,
            branch=branch,
            resume=ref,
            fork=options,
            id=uuid.uuid4().hex,
        )
        launch.start(ctx, location, launch_env, argv)
    published = fork_commit(repo, resolved, branch, message=message)
    repo.set_head(published.branch)
    add_commit(repo, published.commit)
    output.line(f"{output.bold(f'{branch}@{resolved.commit.step}')} from {resolved.revision}")
    output.note(f"now on branch {branch}; to train on it: gradient resume {branch} -- CMD")
