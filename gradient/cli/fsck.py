"""`gradient fsck`: check all stored data, and repair damage."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

import click

from gradient.cli import output
from gradient.cli.output import json_option
from gradient.cli.repo_options import RepoOptions, find_location, location_options, trust
from gradient.errors import ConfigError, ContextError, GradientError
from gradient.maintenance.fsck import repair as fsck_repair
from gradient.maintenance.fsck.check import Progress, check
from gradient.maintenance.fsck.findings import CLASSES, Finding, FsckReport
from gradient.maintenance.fsck.repair import Repaired
from gradient.objects.name_list import shorten
from gradient.repo import paths
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.view.manifest import Manifest

DAMAGED = 3
"""The exit code if stored data is damaged."""

_SHOWN = 5
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


@click.command("fsck")
@location_options
@click.option("--quick", is_flag=True, help="Check structure, history and indexes, not contents.")
@click.option("--subset", metavar="N/T", help="Check the contents of part N of T.")
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Check contents for this long, starting at another place each time.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Save the intact parts of damaged packs; move damaged files to lost+found.",
)
@click.option(
    "--from",
    "sources",
    multiple=True,
    type=click.Path(exists=True, file_okay=False),
    metavar="REPO",
    help="With --repair: another repo, such as a backup, to recover lost objects from.",
)
@json_option(
    {
        "path": "the repo's folder, absolute",
        "sound": "whether the checks found no error",
        "complete": "whether all contents were checked",
        "commits": "the number of commits checked",
        "damaged": "the revisions of commits that cannot be restored completely",
        "packs": "the number of packs",
        "frames": "the number of stored objects that were decoded and compared with their ids",
        "read_bytes": "the bytes read from packs",
        "all_bytes": "the size of all packs",
        "seconds": "the duration",
        "findings": "one object each: `id` (a stable word, see guide-fsck.md), `severity` "
        "(`error`, `warning`, `info`), `path`, `object`, `message`, `commits`, `remedy`",
        "actions": "with `--repair`, what was done: `what`, `path`, `detail`; else null",
        "healed": "with `--repair`, the revisions that can be restored again; else null",
    }
)
@click.pass_context
def command(
    ctx: click.Context,
    quick: bool,
    subset: str | None,
    max_time: float | None,
    repair: bool,
    sources: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check every stored byte for damage.

    Exit code 3 means that something is wrong. Without --repair, nothing is written. --repair
    deletes nothing and moves no branch.

    \b
    Examples:
      gradient fsck
      gradient fsck --json > findings.json
    """
    if repair and (quick or subset is not None or max_time is not None):
        raise click.UsageError(
            "--repair checks everything; leave out --quick, --subset and --max-time", ctx
        )
    if sources and not repair:
        raise click.UsageError("--from needs --repair", ctx)
    path = _repo(ctx)
    part = None if subset is None else _part(subset)
    started = time.monotonic()
    repaired = None
    with output.log_lines(logging.ERROR), _progress() as progress:
        if repair:
            trust().check(path)
            repaired = fsck_repair.repair(path, sources=sources, progress=progress)
            report = repaired.after
            _renew_manifest(path, report)
        else:
            report = check(path, quick=quick, subset=part, max_time=max_time, progress=progress)
    seconds = time.monotonic() - started
    if as_json:
        output.document(_document(path, report, repaired, seconds))
    else:
        _print(report, repaired, seconds)
    return 0 if report.is_sound else DAMAGED


def _repo(ctx: click.Context) -> str:
    """Return the repo's folder, even if its config is lost."""
    try:
        return find_location(ctx).repo
    except ContextError:
        start = PurePath(fs.absolute(ctx.ensure_object(RepoOptions).directory or "."))
        for folder in map(str, (start, *start.parents)):
            if fs.is_folder(paths.inside(folder)):
                return folder
        raise


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError(f"--subset {text}: write N/T, such as 1/7 for the first of seven parts")
    return int(match[1]), int(match[2])


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show the progress on a terminal, a few times a second."""
    shown = sys.stderr.isatty()
    last = 0.0

    def show(what: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if shown and now - last > 0.2:
            last = now
            amount = output.size(done) if what == "bytes" else f"{done:,} {what}"
            of = f" of {output.size(total)}" if total is not None else ""
            click.echo(f"\r\x1b[K{amount}{of}", nl=False, err=True)

    try:
        yield show
    finally:
        if last:
            click.echo("\r\x1b[K", nl=False, err=True)


def _renew_manifest(path: str, report: FsckReport) -> None:
    """Rewrite the manifest if it disagrees with the history, from which it is derived."""
    if any(finding.id.startswith("manifest-") for finding in report.findings):
        try:
            Manifest(Repository.open(path)).write()
        except GradientError as error:
            output.note(f"manifest.json was not rewritten: {error}")


def _document(
    path: str, report: FsckReport, repaired: Repaired | None, seconds: float
) -> dict[str, Any]:
    return {
        "path": path,
        "sound": report.is_sound,
        "complete": report.complete,
        "commits": report.commits,
        "damaged": list(report.damaged),
        "packs": report.packs,
        "frames": report.frames,
        "read_bytes": report.read_bytes,
        "all_bytes": report.all_bytes,
        "seconds": round(seconds, 3),
        "findings": [finding.document() for finding in report.findings],
        "actions": None
        if repaired is None
        else [
            {"what": each.what, "path": each.path, "detail": each.detail}
            for each in repaired.actions
        ],
        "healed": None if repaired is None else list(repaired.healed),
    }


def _print(report: FsckReport, repaired: Repaired | None, seconds: float) -> None:
    if repaired is not None:
        for action in repaired.actions:
            output.line(f"{action.what:<9} {action.path}: {action.detail}")
        if repaired.healed:
            output.line(f"healed: {', '.join(repaired.healed)}")
        if repaired.lost:
            output.line(f"still damaged: {', '.join(repaired.lost)}")
        output.line()
    for finding in report.findings:
        _print_finding(finding)
    commits, packs = output.plural(report.commits, "commit"), output.plural(report.packs, "pack")
    read = output.size(report.read_bytes)
    output.line(
        f"{commits} in {packs}; {report.frames:,} contents compared with their ids "
        f"({read} in {seconds:.1f} s)"
    )
    if not report.complete:
        output.line("not all contents were checked; others may be damaged too")
    totals = {"error": report.count("error"), "warning": report.count("warning")}
    counts = [output.plural(count, word) for word, count in totals.items() if count]
    output.line(", ".join(counts) if counts else "nothing is wrong")


def _print_finding(finding: Finding) -> None:
    severity = click.style(finding.severity, fg=_COLOURS[finding.severity], bold=True)
    where = f" {finding.path}" if finding.path else ""
    output.line(f"{severity} {finding.id}{where}: {finding.message}")
    if finding.commits:
        output.line(f"  needed by {shorten(finding.commits, _SHOWN)}")
    if finding.severity != "info":
        output.line(f"  {output.dim('remedy:')} {CLASSES[finding.id].remedy}")
