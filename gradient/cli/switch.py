"""`gradient switch`: choose the active branch."""

from __future__ import annotations

import difflib
import os

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_branch, complete_revision
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.engine import launch_env
from gradient.errors import UnknownRevisionError
from gradient.repo import branch_names, ref_edits
from gradient.view.updates import follow_refs


@click.command("switch")
@location_options
@click.argument("branch", shell_complete=complete_branch)
@click.argument("rev", required=False, shell_complete=complete_revision)
@click.option(
    "-c", "--create", is_flag=True, help="Create BRANCH first, at REV (the latest commit)."
)
@click.pass_context
def command(ctx: click.Context, branch: str, rev: str | None, create: bool) -> None:
    """Make BRANCH the active branch.

    `latest` names its newest commit, and new runs commit to it.

    \b
    Examples:
      gradient switch high_lr
      gradient switch -c idea main@100
    """
    if rev is not None and not create:
        raise click.UsageError("REV needs -c: gradient switch -c BRANCH REV", ctx)
    repo = find_repository(ctx)
    branch_names.check_branch_name(branch)
    if create:
        resolved = repo.resolve(rev or "latest", branch=active_branch(repo))
        repo.check_writable()
        ref_edits.create_branch(repo, branch, resolved.oid, reason=f"branch at {resolved.revision}")
        repo.store.compact_indexes()
        follow_refs(repo)
    elif branch not in repo.branches():
        near = difflib.get_close_matches(branch, repo.branches())
        reason = f"there is no branch {branch!r}; to make it: gradient switch -c {branch} REV"
        raise UnknownRevisionError(branch, reason, near or repo.branches()[:5])
    tip = repo.resolve(f"{branch}@latest")
    repo.check_writable()
    repo.set_head(branch)
    output.line(f"on branch {output.bold(branch)} at step {tip.commit.step}")
    override = os.environ.get(launch_env.BRANCH)
    if override and override != branch:
        output.note(f"{launch_env.BRANCH}={override} is set and takes precedence in this shell")
