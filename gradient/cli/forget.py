"""`gradient forget`: drop the state of commits that no rule keeps."""

from __future__ import annotations

from typing import Any

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
from gradient.errors import ConfigError
from gradient.maintenance.retention.forget import ForgetResult, forget
from gradient.repo.history import Entry
from gradient.repo.retention.rules import Keep
from gradient.view.updates import follow_refs


@click.command("forget")
@location_options
@click.option(
    "--keep-last", type=click.IntRange(0), metavar="N", help="Keep the newest N of each branch."
)
@click.option(
    "--keep-every",
    type=click.IntRange(1),
    metavar="N",
    help="Keep those whose step is a multiple of N.",
)
@click.option(
    "--keep-best",
    multiple=True,
    metavar="METRIC[:N]",
    help="Keep the N (1) lowest of each branch: val_loss:3; the highest: acc:max:3. Repeatable.",
)
@click.option("--keep-tagged", is_flag=True, help="Keep tagged commits; they are kept in any case.")
@click.option(
    "--keep-aside", metavar="SPAN", help="Keep branches that were set aside within SPAN: 14d."
)
@click.option(
    "--drop",
    multiple=True,
    metavar="COMPONENT",
    help="Drop only this component, such as optimizer. Repeatable.",
)
@click.option(
    "--grace",
    type=Duration(),
    default="7d",
    show_default=True,
    help="Keep the removed data in the trash for this long; 0 frees the space at once.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only print what would be done.")
@json_option(
    {
        "kept": "the commits that stay whole: `id`, `revision`, `reasons`",
        "forgotten": "the commits whose state is dropped: `id`, `revision`",
        "gone": "how many commits were forgotten before",
        "policy": "the rules",
        "collected": f"what was freed: {', '.join(f'`{name}`' for name in COLLECTED_FIELDS)}, as "
        f"in `gradient gc --json`",
    }
)
@click.pass_context
def command(
    ctx: click.Context,
    keep_last: int | None,
    keep_every: int | None,
    keep_best: tuple[str, ...],
    keep_tagged: bool,
    keep_aside: str | None,
    drop: tuple[str, ...],
    grace: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Drop the state of old commits, except those that a rule keeps.

    The commits stay in the log, with their ids, messages and metrics. Branch tips, tagged commits,
    the commits where branches fork, and the newest finite commit of each branch are always kept
    whole. Unreachable data is then collected, as by gradient gc. This is safe during training.

    \b
    Examples:
      gradient forget --keep-last 5 --keep-every 1000 --keep-best val_loss:3 -n
      gradient forget --keep-last 5 --drop optimizer
    """
    try:
        keep = Keep(last=keep_last, every=keep_every, best=keep_best, aside=keep_aside, drop=drop)
    except ConfigError as error:
        if keep_last is None and keep_every is None and not keep_best:
            raise click.UsageError(
                "name what to keep: --keep-last, --keep-every or --keep-best", ctx
            ) from None
        raise click.UsageError(str(error), ctx) from None
    repo = find_repository(ctx)
    with collection_progress() as progress:
        result = forget(repo, keep, grace=grace, dry_run=dry_run, progress=progress)
    if not dry_run:
        follow_refs(repo)
    if as_json:
        output.document(_document(result, keep, dry_run=dry_run))
    else:
        _print(result, keep, dry_run=dry_run)
        print_trash(repo, result.collected, grace, dry_run=dry_run)


def _document(result: ForgetResult, keep: Keep, *, dry_run: bool) -> dict[str, Any]:
    plan = result.plan
    return {
        "kept": [{**_named(entry), "reasons": [*reasons]} for entry, reasons in plan.kept],
        "forgotten": [_named(entry) for entry in plan.leaving],
        "gone": plan.gone,
        "policy": keep.words,
        "collected": document(result.collected, dry_run=dry_run),
    }


def _named(entry: Entry) -> dict[str, Any]:
    return {"id": str(entry.oid), "revision": entry.revision}


def _print(result: ForgetResult, keep: Keep, *, dry_run: bool) -> None:
    plan, collected = result.plan, result.collected
    rows = [
        (output.bold(entry.revision), output.dim(entry.oid.short), ", ".join(reasons))
        for entry, reasons in plan.kept
    ]
    output.line(f"kept: {output.plural(len(rows), 'commit')}")
    if rows:
        output.table(rows)
    what = f"the {' and the '.join(keep.drop)} of " if keep.drop else ""
    before = f" ({plan.gone:,} before)" if plan.gone else ""
    verb = "would be forgotten" if dry_run else "forgotten"
    output.line(f"{verb}: {what}{output.plural(len(plan.leaving), 'commit')}{before}")
    when = " once the trash is empty" if collected.in_trash or dry_run else ""
    output.line(
        f"saves {output.size(collected.saved_bytes)} of {output.size(collected.stored_bytes)}{when}"
    )
    if dry_run:
        output.line("nothing was changed; to do it, leave out -n")
