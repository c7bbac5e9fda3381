"""`gradient view rebuild`: rewrite the files that other tools open."""

from __future__ import annotations

import logging

import click

from gradient.cli import output
from gradient.cli.repo_options import find_repository, location_options
from gradient.repo.config import VIEW_MODES, ViewMode


@click.group("view")
def command() -> None:
    """Manage the files that other tools open.

    \b
    Example:
      gradient view rebuild
    """


@command.command("rebuild")
@location_options
@click.option(
    "--mode",
    type=click.Choice(VIEW_MODES),
    default="auto",
    show_default=True,
    help="The kind of the files to write; off writes only the manifest.",
)
@click.pass_context
def rebuild(ctx: click.Context, mode: ViewMode) -> None:
    """Write the manifest and every missing file of the view.

    \b
    Example:
      gradient view rebuild
    """
    repo = find_repository(ctx)
    # Imported here because full files need torch, and the code above does not.
    from gradient.view.rebuild import rebuild as rebuild_view

    with output.log_lines(logging.WARNING), output.progress("files") as advance:
        result = rebuild_view(repo, mode=mode, progress=lambda *_: advance(1))
    files = output.plural(len(result.written), "file")
    output.line(f"{files} written, {result.kept:,} kept; manifest.json is current")
