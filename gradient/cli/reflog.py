"""`gradient reflog`: list the moves of a branch, with their reasons."""

from __future__ import annotations

from itertools import islice

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_branch
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.errors import UnknownRevisionError
from gradient.objects.oid import Oid
from gradient.repo.repository import Repository
from gradient.store.ref_record import RefRecord


@click.command("reflog")
@location_options
@click.argument("branch", required=False, shell_complete=complete_branch)
@click.option(
    "-n", "most", type=click.IntRange(0), default=100, metavar="N", help="Show the newest N (100)."
)
@json_option(
    {
        "branch": "the branch's name",
        "records": "the newest first: `at` (`BRANCH@{N}`, the revision of the commit; null for a "
        "deletion), `kind` (move, delete, fence), `id` (or null), `revision` (branch and step as "
        "the commit was made; null if it is missing), `time`, `reason`",
    }
)
@click.pass_context
def command(ctx: click.Context, branch: str | None, most: int, as_json: bool) -> None:
    """Show the moves of BRANCH (the active one), the newest first.

    BRANCH may be a deleted branch. To restore it: `gradient branch NAME 'NAME@{0}'`.

    \b
    Example:
      gradient reflog main -n 5
    """
    repo = find_repository(ctx)
    name = branch or active_branch(repo)
    if name not in repo.refs.known():
        near = repo.refs.known()[:5]
        raise UnknownRevisionError(name, f"there is no branch {name!r} and there never was", near)
    rows = []
    moves = 0
    for record in islice(repo.refs.backwards(name), most):
        at = f"{name}@{{{moves}}}" if record.kind == "move" else None
        moves += record.kind == "move"
        rows.append(_describe(repo, record, at))
    if as_json:
        output.document({"branch": name, "records": rows})
        return
    if rows:
        output.pages(output.aligned(map(_cells, rows)))


def _cells(row: dict[str, str | None]) -> tuple[str, ...]:
    time = output.utc(row["time"]) if row["time"] else ""
    name = row["at"] or row["kind"] or ""
    oid = output.dim((row["id"] or "-")[:10])
    return oid, name, row["revision"] or "", time, row["reason"] or ""


def _describe(repo: Repository, record: RefRecord, at: str | None) -> dict[str, str | None]:
    return {
        "at": at,
        "kind": record.kind,
        "id": None if record.commit is None else str(record.commit),
        "revision": None if record.commit is None else _revision(repo, record.commit),
        "time": record.time,
        "reason": record.reason,
    }


def _revision(repo: Repository, oid: Oid) -> str | None:
    if oid not in repo.store:
        return None
    link = repo.link(oid)
    return f"{link.branch}@{link.step}"
