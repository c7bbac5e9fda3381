"""`gradient branch`: the branches, where they stand and where they came from."""

from __future__ import annotations

from typing import Any

import click

from gradient.cli import output
from gradient.cli.output import json_option
from gradient.cli.place import active_branch, find_repository, place_options
from gradient.repo import names
from gradient.repo.history import History, Summary
from gradient.repo.repository import Repository


@click.command("branch")
@place_options
@click.option("-v", "--verbose", is_flag=True, help="Also show each tip's time and message.")
@json_option(
    {
        "active": "the active branch, which need not have commits yet",
        "branches": "one object per branch: `name`, `active`, `tip` (commit id), `step`, "
        "`commits`, `anchors`, `deltas`, `fork_point` (the revision it left another line at, or "
        "null), `set_aside` (whether it is a line that was set aside or diverted), `time`, "
        "`message`, `metrics`",
    }
)
@click.pass_context
def command(ctx: click.Context, as_json: bool, verbose: bool) -> None:
    """List the branches: tip, steps, fork point."""
    repo = find_repository(ctx)
    active = active_branch(repo)
    history = History(repo)
    rows = [describe(repo, history, each, active) for each in history.summaries()]
    if as_json:
        output.document({"active": active, "branches": rows})
        return
    if not rows:
        output.note(f"no commits yet; the active branch is {active}")
        return
    output.table([_cells(row, verbose) for row in rows], indent=0)


def describe(repo: Repository, history: History, each: Summary, active: str) -> dict[str, Any]:
    """Return what the JSON says of one branch."""
    tip = repo.read_commit(each.tip)
    source = history.entries[each.source] if each.source is not None else None
    return {
        "name": each.branch,
        "active": each.branch == active,
        "tip": str(each.tip),
        "step": each.step,
        "commits": each.commits,
        "anchors": each.anchors,
        "deltas": each.deltas,
        "fork_point": source.revision if source is not None else None,
        "set_aside": names.is_beside(each.branch),
        "time": tip.time,
        "message": tip.message,
        "metrics": output.plain_numbers(tip.metrics),
    }


def summary_cells(row: dict[str, Any]) -> list[str]:
    """Return the columns that every listing of branches shows."""
    name = output.strong(row["name"]) if row["active"] else row["name"]
    fork = f"from {row['fork_point']}" if row["fork_point"] else ""
    return [
        f"{'*' if row['active'] else ' '} {name}",
        f"step {row['step']}",
        output.amount(row["commits"], "commit"),
        fork,
    ]


def _cells(row: dict[str, Any], verbose: bool) -> list[str]:
    cells = [*summary_cells(row), output.faint(row["tip"][:10])]
    if verbose:
        message = row["message"].splitlines()
        cells += [row["time"].partition(".")[0], message[0] if message else ""]
    return cells
