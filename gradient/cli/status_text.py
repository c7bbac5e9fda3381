"""The text that `gradient status` prints, from the report that ``--json`` prints."""

from __future__ import annotations

from typing import Any

from gradient.cli import output
from gradient.cli.branch import summary_cells
from gradient.objects.oid import Oid

_STATES = {
    "writing": "process {process} is writing a commit",
    "cut off": "process {process} ended while writing a commit; its earlier commits are intact",
    "unknown": "process {process} of another machine may be writing a commit",
}


def print_report(report: dict[str, Any]) -> None:
    """Print a report of `gradient status`."""
    about = f"  {report['description']}" if report["description"] else ""
    output.line(f"repo {output.bold(report['repo'])}{about}  {output.dim(report['path'])}")
    tip = report["tip"]
    if tip is None:
        output.line(f"on branch {output.bold(report['active_branch'])}, no commits on it yet")
    else:
        message = f": {tip['message'].splitlines()[0]}" if tip["message"] else ""
        when = output.utc(tip["time"])
        revision = output.bold(tip["revision"])
        output.line(f"on branch {report['active_branch']} at {revision}, {when}{message}")
        since = output.plural(tip["since_anchor"], "commit")
        anchor = f"{since} after the anchor {tip['anchor']}" if tip["since_anchor"] else "an anchor"
        output.line(output.dim(anchor))
        if tip["finite"] is False:
            last = f"{report['active_branch']}@last-finite"
            output.line(
                f"its weights contain NaN or infinite values; the newest finite commit: {last}"
            )
    _print_branches("branches", report["branches"])
    _print_branches("set aside", report["set_aside"])
    _print_unfinished(report)
    _print_unreadable(report["unreadable"])
    output.line()
    output.table(_figures(report), indent=0)
    _print_components(report)
    if report["missing_view_files"]:
        output.line(
            f"\n{output.plural(report['missing_view_files'], 'view file')} missing. No commit is "
            "lost, and deleting view files freed nothing in the store. To write them again: "
            "gradient view rebuild"
        )
    if report["view_is_elsewhere"]:
        output.line(
            "\nthe view names another folder because the repo was moved or copied. The next attach "
            "corrects it, and so does: gradient view rebuild"
        )
    if report["pending_handoff"]:
        output.line("\npending in this environment, for the next attach:")
        output.table([(f"{name}={value}",) for name, value in report["pending_handoff"].items()])


def _print_branches(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        output.line(f"\n{title}")
        output.table([summary_cells(row) for row in rows])


def _print_unfinished(report: dict[str, Any]) -> None:
    rows = [
        (
            each["branch"],
            _STATES[each["state"]].format(**each),
            f"since {output.utc(each['since'])}",
        )
        for each in report["unfinished"]
    ]
    rows += [(each["branch"], *_failed_cells(each)) for each in report["missed"]]
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


def _failed_cells(note: dict[str, Any]) -> tuple[str, str]:
    counts = [f"{note[how]} {how}" for how in ("failed", "skipped") if note[how]]
    commits = output.plural(note["failed"] + note["skipped"], "commit")
    last = f"the last one, step {note['step']}, at {output.utc(note['time'])}: {note['reason']}"
    return f"{commits} not written ({', '.join(counts)})", last


def _print_components(report: dict[str, Any]) -> None:
    measured, commits = report["measured_commits"], report["checkpoints"]
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
                for each in report["components"]
            ),
        ]
    )


def _size(count: int) -> str:
    return output.size(count) if count >= 0 else f"-{output.size(-count)}"


def _figures(report: dict[str, Any]) -> list[tuple[str, str]]:
    anchors = output.plural(report["anchors"], "anchor")
    deltas = output.plural(report["deltas"], "delta")
    stored, represented = report["stored_bytes"], report["represented_bytes"]
    ratio = output.ratio(stored, represented)
    free = output.size(report["free_bytes"])
    if report["free_commits"] is not None:
        free += f", about {output.plural(report['free_commits'], 'more commit')}"
    rows = [
        ("commits", f"{report['checkpoints']:,}: {anchors}, {deltas}"),
        ("stored", f"{output.size(stored)} for about {output.size(represented)} of state{ratio}"),
        ("free space", free),
    ]
    if report["last_run"] is not None:
        rows.append(("last run", report["last_run"]["command"]))
        rows.append(("go on with", report["resume_command"]))
    if report["active_command"] is not None:
        rows.append(("go on here", report["active_command"]))
    return rows
