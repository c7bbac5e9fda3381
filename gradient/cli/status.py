"""`gradient status`: the state of the repo, its contents, and the command that resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

import click

from gradient.cli import output
from gradient.cli.branch import describe
from gradient.cli.output import json_option
from gradient.cli.repo_options import (
    active_branch,
    find_location,
    find_repository,
    location_options,
)
from gradient.cli.status_text import print_report
from gradient.engine import launch_env
from gradient.maintenance.component_sizes import ComponentSize, shares
from gradient.maintenance.logical_size import weigh
from gradient.objects.oid import Oid
from gradient.repo import failed_commits, json_files, paths, resume_command
from gradient.repo.active_writers import unfinished
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs


@click.command("status")
@location_options
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
    report = _gather(ctx, repo)
    if as_json:
        output.document(report)
    else:
        print_report(report)


def pending_handoff(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the launch environment that are set."""
    names = (*launch_env.OWNED, launch_env.AUTOCOMMIT)
    return {name: environ[name] for name in names if environ.get(name)}


def _gather(ctx: click.Context, repo: Repository) -> dict[str, Any]:
    history = History(repo, on_damage="skip")
    active = active_branch(repo)
    rows = [describe(repo, history, each, active) for each in history.summaries()]
    weight = weigh(repo, history)
    components, measured = shares(repo, history, weight)
    location = find_location(ctx)
    last = resume_command.find(repo)
    free = fs.free_bytes(repo.path)
    view = _view(repo.path)
    return {
        "repo": location.repo_name,
        "path": repo.path,
        "workspace": location.workspace,
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
    """Return the distance in commits from `tip` to its newest anchor, and the anchor.

    If the history has no anchor, because older commits were forgotten, use its first commit.
    """
    for number, (oid, link) in enumerate(repo.walk_links(tip, on_damage="skip")):
        if link.anchored or link.parent is None:
            return number, oid
    raise AssertionError  # pragma: no cover - every history has a first commit


def _component(share: ComponentSize) -> dict[str, Any]:
    return {**asdict(share), "saved_bytes": share.saved_bytes}


@dataclass(frozen=True, slots=True)
class _View:
    """The state of the view."""

    missing: int
    """The number of missing files."""
    elsewhere: bool
    """Return whether the manifest names another folder."""


def _view(repo_path: str) -> _View:
    """Check which files of the manifest exist, with one listing of the folder."""
    manifest = json_files.read_bytes(paths.beside(repo_path, paths.MANIFEST))
    if manifest is None:
        return _View(1, elsewhere=False)  # without it, the other files are unknown
    try:
        entries = json.loads(manifest).get("checkpoints", [])
        listed = {PurePath(entry["file"]) for entry in entries if entry.get("file")}
    except (ValueError, TypeError, KeyError, AttributeError):
        # A torn manifest is no error: the next commit rewrites it.
        return _View(0, elsewhere=False)
    names = {path.name for path in listed}
    elsewhere = any(path.parent != PurePath(repo_path) for path in listed if path.is_absolute())
    return _View(len(names - set(fs.names(repo_path))), elsewhere)
