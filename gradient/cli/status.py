"""`gradient status`: where the repo stands, what it holds, and how to go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

import click

from gradient.cli import output
from gradient.cli.branch import describe, summary_cells
from gradient.cli.output import json_option
from gradient.cli.place import active_branch, find_place, find_repository, place_options
from gradient.engine import handoff
from gradient.maintenance.statistics import weigh
from gradient.repo import again, documents, layout
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs


@click.command("status")
@place_options
@json_option(
    {
        "repo": "the repo's name",
        "path": "its folder, absolute",
        "workspace": "the workspace's folder, absolute",
        "description": "what its maker said about it",
        "active_branch": "the branch that `latest` means",
        "tip": "its newest commit: `id`, `revision`, `step`, `time`, `message`; null before the "
        "first",
        "branches": "one object per branch, as `gradient branch --json` has them, without those "
        "set aside",
        "set_aside": "the same for lines that were set aside or diverted",
        "checkpoints": "the number of commits that a branch leads to",
        "anchors": "how many of them are anchors",
        "deltas": "how many are deltas",
        "stored_bytes": "the length of all packs",
        "represented_bytes": "about what the commits would weigh as files of their own",
        "free_bytes": "the space left on the device",
        "free_commits": "about how many more commits fit; null before the first",
        "missing_view_files": "how many files of the view are not there, of those that the "
        "manifest lists and the manifest itself; deleting them freed nothing in the store, and "
        "`gradient view rebuild` restores them",
        "pending_handoff": "the variables set in this environment that steer the next attach",
        "last_run": "the last training command: `command`, `cwd`, `time`, `launch` (what "
        "launched it, where that is known); or null",
        "resume_command": "the exact command that goes on with it, or null",
    }
)
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show branches, counts, space, and how to go on."""
    repo = find_repository(ctx)
    facts = _gather(ctx, repo)
    if as_json:
        output.document(facts)
    else:
        _print(facts)


def pending_handoff(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a handoff that are set."""
    names = (*handoff.OWNED, handoff.AUTOCOMMIT)
    return {name: environ[name] for name in names if environ.get(name)}


def _gather(ctx: click.Context, repo: Repository) -> dict[str, Any]:
    history = History(repo)
    active = active_branch(repo)
    rows = [describe(repo, history, each, active) for each in history.summaries()]
    weight = weigh(repo, history)
    place = find_place(ctx)
    last = again.find(repo)
    free = fs.free_bytes(repo.path)
    return {
        "repo": place.repo_name,
        "path": repo.path,
        "workspace": place.workspace,
        "description": repo.config.description or "",
        "active_branch": active,
        "tip": _tip(rows),
        "branches": [row for row in rows if not row["set_aside"]],
        "set_aside": [row for row in rows if row["set_aside"]],
        "checkpoints": weight.commits,
        "anchors": weight.anchors,
        "deltas": weight.deltas,
        "stored_bytes": weight.stored_bytes,
        "represented_bytes": weight.represented_bytes,
        "free_bytes": free,
        "free_commits": weight.commits_within(free),
        "missing_view_files": _missing_files(repo.path) if rows else 0,
        "pending_handoff": pending_handoff(os.environ),
        "last_run": asdict(last.run) if last is not None else None,
        "resume_command": last.resume if last is not None else None,
    }


def _tip(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    for row in rows:
        if row["active"]:
            revision = f"{row['name']}@{row['step']}"
            facts = {name: row[name] for name in ("step", "time", "message")}
            return {"id": row["tip"], "revision": revision, **facts}
    return None


def _missing_files(repo_path: str) -> int:
    """Count what the folder lacks of the view; one listing, no stats."""
    raw = documents.read_bytes(layout.beside(repo_path, layout.MANIFEST))
    if raw is None:
        return 1  # which files there were, nothing says
    try:
        entries = json.loads(raw).get("checkpoints", [])
        listed = {PurePath(entry["file"]).name for entry in entries if entry.get("file")}
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0  # a torn manifest: it is derived, and rewritten by the next commit
    return len(listed - set(fs.names(repo_path)))


def _print(facts: dict[str, Any]) -> None:
    about = f"  {facts['description']}" if facts["description"] else ""
    output.line(f"repo {output.strong(facts['repo'])}{about}  {output.faint(facts['path'])}")
    tip = facts["tip"]
    if tip is None:
        output.line(f"on branch {output.strong(facts['active_branch'])}, no commits on it yet")
    else:
        said = f": {tip['message'].splitlines()[0]}" if tip["message"] else ""
        when = tip["time"].partition(".")[0]
        revision = output.strong(tip["revision"])
        output.line(f"on branch {facts['active_branch']} at {revision}, {when} UTC{said}")
    _print_branches("branches", facts["branches"])
    _print_branches("set aside", facts["set_aside"])
    output.line()
    output.table(_facts(facts), indent=0)
    if facts["missing_view_files"]:
        output.line(
            f"\n{output.amount(facts['missing_view_files'], 'file')} of the view "
            "missing. Nothing is lost, and deleting them freed nothing in the store; to write "
            "them again: gradient view rebuild"
        )
    if facts["pending_handoff"]:
        output.line("\npending in this environment, for the next attach:")
        output.table([(f"{name}={value}",) for name, value in facts["pending_handoff"].items()])


def _print_branches(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        output.line(f"\n{title}")
        output.table([summary_cells(row) for row in rows])


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    anchors = output.amount(facts["anchors"], "anchor")
    deltas = output.amount(facts["deltas"], "delta")
    stored, represented = facts["stored_bytes"], facts["represented_bytes"]
    ratio = f", 1/{represented / stored:.1f}" if stored and represented > stored else ""
    free = output.size(facts["free_bytes"])
    if facts["free_commits"] is not None:
        free += f", about {facts['free_commits']:,} more commits"
    rows = [
        ("checkpoints", f"{facts['checkpoints']:,}: {anchors}, {deltas}"),
        ("stored", f"{output.size(stored)} for about {output.size(represented)} of state{ratio}"),
        ("free space", free),
    ]
    if facts["last_run"] is not None:
        rows.append(("last run", facts["last_run"]["command"]))
        rows.append(("go on with", facts["resume_command"]))
    return rows
