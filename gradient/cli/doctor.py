"""`gradient doctor`: test whether commits are safe in a folder."""

from __future__ import annotations

import logging
from dataclasses import asdict

import click

from gradient.cli import output
from gradient.cli.output import json_option
from gradient.cli.repo_options import find_location, location_options
from gradient.errors import ContextError
from gradient.maintenance.doctor.probes import examine
from gradient.storage import fs

_MARKS = {
    "ok": ("ok", "green"),
    "note": ("note", "cyan"),
    "warning": ("warning", "yellow"),
    "failed": ("FAILED", "red"),
}


@click.command("doctor")
@location_options
@click.argument("path", required=False, type=click.Path(file_okay=False, exists=True))
@json_option(
    {
        "path": "the folder that was examined, absolute",
        "verdict": "`ok`, or the worst of the probes' verdicts: `note`, `warning`, `failed`",
        "probes": "one object each: `name` (a stable word), `verdict`, `message`, `remedy`",
    }
)
@click.pass_context
def command(ctx: click.Context, path: str | None, as_json: bool) -> int:
    """Test whether commits are safe in a folder.

    The command tests the guarantees of the file system that commits rely on, and removes its test
    files. PATH is the folder; by default it is the repo, or the current folder if there is no
    repo. Exit code 1 means that commits are not safe there.

    \b
    Example:
      gradient doctor /scratch/runs
    """
    folder = fs.absolute(path) if path is not None else _folder(ctx)
    with output.log_lines(logging.ERROR):
        probes = examine(folder)
    verdict = max((probe.verdict for probe in probes), key=list(_MARKS).index)
    if as_json:
        output.document(
            {"path": folder, "verdict": verdict, "probes": [asdict(probe) for probe in probes]}
        )
    else:
        output.line(output.bold(folder))
        rows = []
        for probe in probes:
            word, hue = _MARKS[probe.verdict]
            rows.append((click.style(word, fg=hue), probe.name, probe.message))
            if probe.remedy:
                rows.append(("", "", f"-> {probe.remedy}"))
        output.table(rows)
    return 1 if verdict == "failed" else 0


def _folder(ctx: click.Context) -> str:
    try:
        repo = find_location(ctx).repo
    except ContextError:
        return fs.absolute(".")
    return repo if fs.is_folder(repo) else fs.absolute(".")
