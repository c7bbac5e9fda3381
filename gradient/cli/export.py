"""`gradient export`: a commit as a file of its own."""

from __future__ import annotations

import logging

import click

from gradient.cli import output
from gradient.cli.complete import complete_revision
from gradient.cli.place import active_branch, find_repository, place_options
from gradient.errors import ConflictError
from gradient.storage import fs

SUFFIXES = (".pt", ".pth")


@click.command("export")
@place_options
@click.argument("rev", shell_complete=complete_revision)
@click.argument("path", type=click.Path(dir_okay=False))
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@click.pass_context
def command(ctx: click.Context, rev: str, path: str, force: bool) -> None:
    """Write a commit to a file of its own.

    PATH ends in .pt: self-contained, for a plain torch.load anywhere.
    """
    if not path.endswith(SUFFIXES):
        raise click.BadParameter(f"{path!r} ends neither in .pt nor in .pth", param_hint="PATH")
    repo = find_repository(ctx)
    found = repo.resolve(rev, branch=active_branch(repo))
    if fs.exists(path) and not force:
        raise ConflictError(f"{path} exists; to replace it, add --force")
    # Here alone: it imports torch, which the checks above can do without.
    from gradient.view.export import export_pt

    with output.log_lines(logging.INFO):
        export_pt(repo, found.oid, path)
    output.line(f"{found.commit.revision} ({found.oid.short}) in {path}")
