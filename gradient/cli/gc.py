"""`gradient gc`: remove unreachable data."""

from __future__ import annotations

import click

from gradient.cli import output
from gradient.cli.gc_report import (
    COLLECTED_FIELDS,
    Duration,
    collection_progress,
    document,
    print_trash,
)
from gradient.cli.output import json_option
from gradient.cli.repo_options import find_repository, location_options
from gradient.maintenance import garbage_collection
from gradient.maintenance.garbage_collection import GcResult
from gradient.repo.repository import Repository


@click.command("gc")
@location_options
@click.option(
    "--grace",
    type=Duration(),
    default="7d",
    show_default=True,
    help="Keep the trash, and commits that branches pointed to before, for this long (0, 30m, "
    "12h, 14d). 0 frees the space at once; it is safe during training, too.",
)
@click.option(
    "--recompress",
    is_flag=True,
    help="Search for a smaller encoding of every chunk; slow, because it reads everything.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only print what would be done.")
@click.option("--undo", is_flag=True, help="Bring back everything in the trash.")
@json_option(COLLECTED_FIELDS)
@click.pass_context
def command(
    ctx: click.Context, grace: float, recompress: bool, dry_run: bool, undo: bool, as_json: bool
) -> None:
    """Remove unreachable data, and merge small packs.

    Data is unreachable if no branch or tag leads to it. Removed packs go to the trash first.
    --undo brings them back until the grace period ends. Training runs can commit while it works.

    \b
    Examples:
      gradient gc --dry-run
      gradient gc --grace 0
    """
    if undo and dry_run:
        raise click.UsageError("--undo and --dry-run cannot be combined")
    if recompress and (undo or dry_run):
        raise click.UsageError("--recompress cannot be combined with --dry-run or --undo")
    repo = find_repository(ctx)
    if undo:
        _undo(repo, as_json=as_json)
        return
    with collection_progress() as progress:
        result = garbage_collection.collect(
            repo, grace=grace, dry_run=dry_run, recompress=recompress, progress=progress
        )
    if as_json:
        output.document(document(result, dry_run=dry_run))
        return
    _print(result, dry_run=dry_run)
    print_trash(repo, result, grace, dry_run=dry_run)


def _print(result: GcResult, *, dry_run: bool) -> None:
    output.line(
        f"{output.plural(result.commits, 'commit')} kept, in {output.plural(result.packs, 'pack')} "
        f"of {output.size(result.stored_bytes)}"
    )
    would_be = "would be " if dry_run else ""
    if result.dead or result.rewritten:
        output.line(
            f"{output.plural(result.dead, 'unreachable pack')} {would_be}moved to the trash, "
            f"{result.rewritten:,} {would_be}rewritten: saves {output.size(result.saved_bytes)} "
            f"once the trash is empty"
        )
    else:
        output.line("nothing to collect")
    if result.restored:
        output.line(f"{output.plural(result.restored, 'pack')} brought back from the trash")
    if result.removed:
        output.line(
            f"{output.plural(result.removed, 'pack')} in the trash {would_be}removed for good: "
            f"{output.size(result.freed_bytes)}"
        )


def _undo(repo: Repository, *, as_json: bool) -> None:
    count, size = garbage_collection.undo(repo)
    if as_json:
        output.document({"restored": count, "restored_bytes": size})
    elif count:
        output.line(f"{output.plural(count, 'pack')} of {output.size(size)} brought back")
    else:
        output.line("the trash is empty")
