"""`gradient status`: where the repo stands, what it holds, and how to go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import click

from gradient.cli import output
from gradient.cli.branch import describe, summary_cells
from gradient.cli.output import json_option
from gradient.cli.repo_options import (
    active_branch,
    find_place,
    find_repository,
    place_options,
)
from gradient.engine import launch_env
from gradient.maintenance.component_sizes import ComponentSize, shares
from gradient.maintenance.logical_size import weigh
from gradient.objects.oid import Oid
from gradient.repo import failed_commits, json_files, paths, resume_command
from gradient.repo.active_writers import unfinished
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs

_STATES = {
    "writing": "process {process} is writing a commit",
    "cut off": "process {process} ended while writing a commit; its earlier commits are intact",
    "unknown": "process {process} of another machine may be writing a commit",
}


@click.command("status")
@place_options
@json_option(
    {
        "repo": "the repo's name",
        "path": "its folder, absolute",
        "workspace": "the workspace's folder, absolute",
        "description": "its description",
        "active_branch": "the branch that `latest` means",
        "tip": "its newest commit: `id`, `revision`, `step`, `time`, `message`, `anchor` (the "
        "revision of its newest anchor), `since_anchor` (how many commits ago that is), `finite` "
        "(whether all weights are finite; null if they were not checked); null before the first "
        "commit",
        "branches": "one object per branch, as in `gradient branch --json`, without those set "
        "aside",
        "set_aside": "the same for branches that were set aside or diverted",
        "unfinished": "one object per commit that is being written or was cut off: `branch`, "
        "`state` (writing, cut off, or unknown for a writer on another machine), `process`, "
        "`since`",
        "unreadable": "the ids of damaged or lost commits; the reflogs give the commits before "
        "them, so that the histories continue",
        "missed": "one object per branch whose latest commits failed or were skipped: `branch`, "
        "`step` (of the latest one), `how` (failed or skipped), `reason`, `time`, `failed` and "
        "`skipped` (how many since the branch's newest commit)",
        "checkpoints": "the number of commits reachable from a branch",
        "anchors": "how many of them are anchors",
        "deltas": "how many are deltas",
        "stored_bytes": "the size of all packs",
        "represented_bytes": "the approximate size of all commits as separate files",
        "saved_bytes": "the difference; negative if the store's records take more space",
        "components": "one object each for `model`, `optimizer` and `other`: `component`, "
        "`represented_bytes`, `stored_bytes`, `saved_bytes`, which add up to the numbers above",
        "measured_commits": "the number of commits in which the components' stored bytes were "
        "measured; if it is below `checkpoints`, the others are assumed to be alike",
        "free_bytes": "the free space on the device",
        "free_commits": "about how many more commits fit; null before the first commit",
        "missing_view_files": "how many view files are missing: the manifest, and the files that "
        "it lists; deleting them freed nothing in the store, and `gradient view rebuild` restores "
        "them",
        "view_is_elsewhere": "whether the manifest and the thin files name another folder because "
        "the repo was moved or copied; the next attach or `gradient view rebuild` corrects them",
        "pending_handoff": "the variables in this environment that control the next attach",
        "last_run": "the last training command: `command`, `cwd`, `time`, `launch` (the "
        "Gradient command that launched it, if known); or null",
        "resume_command": "the exact command that resumes it, or null",
        "active_command": "the command that resumes the active branch, if the last run was on "
        "another; or null",
    }
)
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the state of the repo, and how to resume training.

    "go on with" is the command that resumes the last run. If that run was on another branch than
    the active one, "go on here" is the command that resumes the active branch. "stored" is the
    size of the packs, and "saved" is how much more separate files would take. A failed commit is
    listed until its branch has a newer commit.

    \b
    Example:
      gradient status --json
    """
    repo = find_repository(ctx)
    facts = _gather(ctx, repo)
    if as_json:
        output.document(facts)
    else:
        _print(facts)


def pending_handoff(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a handoff that are set."""
    names = (*launch_env.OWNED, launch_env.AUTOCOMMIT)
    return {name: environ[name] for name in names if environ.get(name)}


def _gather(ctx: click.Context, repo: Repository) -> dict[str, Any]:
    history = History(repo, on_damage="skip")
    active = active_branch(repo)
    rows = [describe(repo, history, each, active) for each in history.summaries()]
    weight = weigh(repo, history)
    components, measured = shares(repo, history, weight)
    place = find_place(ctx)
    last = resume_command.find(repo)
    free = fs.free_bytes(repo.path)
    view = _view(repo.path)
    return {
        "repo": place.repo_name,
        "path": repo.path,
        "workspace": place.workspace,
        "description": repo.config.description or "",
        "active_branch": active,
        "tip": _tip(repo, history, active),
        "branches": [row for row in rows if not row["set_aside"]],
        "set_aside": [row for row in rows if row["set_aside"]],
        "unfinished": [asdict(each) for each in unfinished(repo)],
        "unreadable": [str(oid) for oid in repo.inferred_parents],
        "missed": [asdict(each) for each in failed_commits.noted(repo.path)],
        "checkpoints": weight.commits,
        "anchors": weight.anchors,
        "deltas": weight.deltas,
        "stored_bytes": weight.stored_bytes,
        "represented_bytes": weight.represented_bytes,
        "saved_bytes": weight.represented_bytes - weight.stored_bytes,
        "components": [_component(each) for each in components],
        "measured_commits": measured,
        "free_bytes": free,
        "free_commits": weight.commits_within(free),
        "missing_view_files": view.missing if rows else 0,
        "view_is_elsewhere": view.elsewhere,
        "pending_handoff": pending_handoff(os.environ),
        "last_run": asdict(last.run) if last is not None else None,
        "resume_command": last.resume if last is not None else None,
        "active_command": resume_command.on_branch(repo, active, last),
    }


def _tip(repo: Repository, history: History, branch: str) -> dict[str, Any] | None:
    oid = history.tips.get(branch)
    if oid is None:
        return None
    commit = repo.read_commit(oid)
    since, anchor = _anchor(repo, oid)
    return {
        "id": str(oid),
        "revision": f"{branch}@{commit.step}",
        "step": commit.step,
        "time": commit.time,
        "message": commit.message,
        "anchor": history.entries[anchor].revision,
        "since_anchor": since,
        "finite": commit.finite,
    }


def _anchor(repo: Repository, tip: Oid) -> tuple[int, Oid]:
    """Return how many commits ago the newest anchor of a line is, and the anchor.

    Where a line has none (its own history was let go of), its first commit stands for it.
    """
    for number, (oid, link) in enumerate(repo.walk_links(tip, on_damage="skip")):
        if link.anchored or link.parent is None:
            return number, oid
    raise AssertionError  # pragma: no cover - a line has a first commit


def _component(share: ComponentSize) -> dict[str, Any]:
    return {**asdict(share), "saved_bytes": share.saved_bytes}


@dataclass(frozen=True, slots=True)
class _View:
    """How the files beside the store are."""

    missing: int
    """How many are not there."""
    elsewhere: bool
    """Whether the manifest names another folder."""


def _view(repo_path: str) -> _View:
    """Look at what the manifest lists; one listing, no stats."""
    raw = json_files.read_bytes(paths.beside(repo_path, paths.MANIFEST))
    if raw is None:
        return _View(1, elsewhere=False)  # which files there were, nothing says
    try:
        entries = json.loads(raw).get("checkpoints", [])
        listed = {PurePath(entry["file"]) for entry in entries if entry.get("file")}
    except (ValueError, TypeError, KeyError, AttributeError):
        # A torn manifest: it is derived, and rewritten by the next commit.
        return _View(0, elsewhere=False)
    names = {path.name for path in listed}
    elsewhere = any(path.parent != PurePath(repo_path) for path in listed if path.is_absolute())
    return _View(len(names - set(fs.names(repo_path))), elsewhere)


def _print(facts: dict[str, Any]) -> None:
    about = f"  {facts['description']}" if facts["description"] else ""
    output.line(f"repo {output.strong(facts['repo'])}{about}  {output.faint(facts['path'])}")
    tip = facts["tip"]
    if tip is None:
        output.line(f"on branch {output.strong(facts['active_branch'])}, no commits on it yet")
    else:
        said = f": {tip['message'].splitlines()[0]}" if tip["message"] else ""
        when = output.moment(tip["time"])
        revision = output.strong(tip["revision"])
        output.line(f"on branch {facts['active_branch']} at {revision}, {when}{said}")
        since = output.amount(tip["since_anchor"], "commit")
        stands = f"{since} after the anchor {tip['anchor']}" if tip["since_anchor"] else "an anchor"
        output.line(output.faint(stands))
        if tip["finite"] is False:
            last = f"{facts['active_branch']}@last-finite"
            output.line(
                f"its weights contain NaN or infinite values; the newest finite commit: {last}"
            )
    _print_branches("branches", facts["branches"])
    _print_branches("set aside", facts["set_aside"])
    _print_work(facts)
    _print_unreadable(facts["unreadable"])
    output.line()
    output.table(_facts(facts), indent=0)
    _print_components(facts)
    if facts["missing_view_files"]:
        output.line(
            f"\n{output.amount(facts['missing_view_files'], 'view file')} missing. No commit is "
            "lost, and deleting view files freed nothing in the store. To write them again: "
            "gradient view rebuild"
        )
    if facts["view_is_elsewhere"]:
        output.line(
            "\nthe view names another folder because the repo was moved or copied. The next attach "
            "corrects it, and so does: gradient view rebuild"
        )
    if facts["pending_handoff"]:
        output.line("\npending in this environment, for the next attach:")
        output.table([(f"{name}={value}",) for name, value in facts["pending_handoff"].items()])


def _print_branches(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        output.line(f"\n{title}")
        output.table([summary_cells(row) for row in rows])


def _print_work(facts: dict[str, Any]) -> None:
    rows = [
        (
            each["branch"],
            _STATES[each["state"]].format(**each),
            f"since {output.moment(each['since'])}",
        )
        for each in facts["unfinished"]
    ]
    rows += [(each["branch"], *_missed_cells(each)) for each in facts["missed"]]
    if rows:
        output.line("\nunfinished")
        output.table(rows)


def _print_unreadable(ids: list[str]) -> None:
    if ids:
        output.line("\nunreadable; to see what is damaged and what can be saved: gradient fsck")
        output.table(
            [
                (Oid.parse(each).short, "skipped: its branch's reflog gives the commit before it")
                for each in ids
            ]
        )


def _missed_cells(note: dict[str, Any]) -> tuple[str, str]:
    counts = [f"{note[how]} {how}" for how in ("failed", "skipped") if note[how]]
    missing = output.amount(note["failed"] + note["skipped"], "commit")
    last = f"the last one, step {note['step']}, at {output.moment(note['time'])}: {note['reason']}"
    return f"{missing} not written ({', '.join(counts)})", last


def _print_components(facts: dict[str, Any]) -> None:
    measured, commits = facts["measured_commits"], facts["checkpoints"]
    if not commits:
        return
    about = "" if measured == commits else f", measured on {measured} of {commits:,} commits"
    output.line(f"\nby component{about}")
    sizes = ("represented_bytes", "stored_bytes", "saved_bytes")
    output.table(
        [
            ("", "state", "stored", "saved"),
            *(
                (each["component"], *(_size(each[name]) for name in sizes))
                for each in facts["components"]
            ),
        ]
    )


def _size(count: int) -> str:
    return output.size(count) if count >= 0 else f"-{output.size(-count)}"


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    anchors = output.amount(facts["anchors"], "anchor")
    deltas = output.amount(facts["deltas"], "delta")
    stored, represented = facts["stored_bytes"], facts["represented_bytes"]
    ratio = f", 1/{represented / stored:.1f}" if stored and represented > stored else ""
    free = output.size(facts["free_bytes"])
    if facts["free_commits"] is not None:
        free += f", about {output.amount(facts['free_commits'], 'more commit')}"
    rows = [
        ("commits", f"{facts['checkpoints']:,}: {anchors}, {deltas}"),
        ("stored", f"{output.size(stored)} for about {output.size(represented)} of state{ratio}"),
        ("free space", free),
    ]
    if facts["last_run"] is not None:
        rows.append(("last run", facts["last_run"]["command"]))
        rows.append(("go on with", facts["resume_command"]))
    if facts["active_command"] is not None:
        rows.append(("go on here", facts["active_command"]))
    return rows
