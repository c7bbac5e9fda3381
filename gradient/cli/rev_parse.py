"""`gradient rev-parse`: print the commit ids of revisions, for scripts."""

from __future__ import annotations

from typing import Any

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.repo import revision_grammar
from gradient.repo.repository import Repository
from gradient.repo.revisions import Resolved


@click.command("rev-parse")
@location_options
@click.argument("revs", metavar="REV...", nargs=-1, required=True, shell_complete=complete_revision)
@click.option("--short", is_flag=True, help="Print only the first ten digits.")
@click.option("--verify", is_flag=True, hidden=True, expose_value=False)
@json_option(
    {
        "revisions": "one object for each REV: `text`, `id`, `revision` (branch and step, as the "
        "commit was made), `branch` (through which REV names it, or null); for a range also "
        "`start` (the id of the last commit before it, or null) and `commits` (their number)"
    }
)
@click.pass_context
def command(ctx: click.Context, revs: tuple[str, ...], short: bool, as_json: bool) -> None:
    """Print the commit id of each REV.

    For a range A..B, the id of B and the id of A with a leading ^ are printed.

    \b
    Examples:
      gradient rev-parse main~3
      gradient rev-parse main@best:val_loss main@last-finite
    """
    repo = find_repository(ctx)
    active = active_branch(repo)
    rows = [_describe(repo, text, active) for text in revs]
    if as_json:
        output.document({"revisions": rows})
        return
    for row in rows:
        for mark, oid in (("", row["id"]), ("^", row.get("start"))):
            if oid is not None:
                output.line(f"{mark}{oid[:10] if short else oid}")


def _describe(repo: Repository, text: str, active: str) -> dict[str, Any]:
    if not revision_grammar.is_range(text):
        return {"text": text, **_commit(repo.resolve(text, branch=active))}
    span = repo.resolve_range(text, branch=active)
    start = None if span.start is None else str(span.start.oid)
    return {"text": text, **_commit(span.stop), "start": start, "commits": len(span.oids)}


def _commit(found: Resolved) -> dict[str, Any]:
    return {"id": str(found.oid), "revision": found.commit.revision, "branch": found.branch}
