"""`gradient reset`: move a branch to another commit."""

from __future__ import annotations

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_branch, complete_revision
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.repo import ref_edits
from gradient.view.updates import follow_refs


@click.command("reset")
@location_options
@click.argument("rev", shell_complete=complete_revision)
@click.option(
    "-b",
    "--branch",
    metavar="NAME",
    help="The branch to move; by default the active branch.",
    shell_complete=complete_branch,
)
@click.pass_context
def command(ctx: click.Context, rev: str, branch: str | None) -> None:
    """Move the active branch to REV.

    The next run continues from REV. Nothing is lost: the old tip is set aside as the branch
    BRANCH.old1, which can be resumed.

    \b
    Examples:
      gradient reset main@last-finite
      gradient reset 'main@{1}'
    """
    repo = find_repository(ctx)
    name = branch or active_branch(repo)
    resolved = repo.resolve(rev, branch=name)
    repo.check_writable()
    reason = f"reset to {rev}"
    aside = ref_edits.reset_branch(repo, name, resolved.oid, reason=reason)
    repo.store.compact_indexes()
    follow_refs(repo)
    revision = output.bold(f"{name}@{resolved.commit.step}")
    output.line(f"{name} is at {revision} ({resolved.oid.short})")
    if aside is not None:
        output.note(f"the old tip is set aside as {aside}; to go back: gradient reset {aside}")
