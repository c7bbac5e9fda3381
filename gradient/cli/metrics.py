"""`gradient metrics`: list the metrics of each commit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import click

from gradient.cli import output
from gradient.cli.commit_format import value
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid


@click.command("metrics")
@location_options
@click.argument("revs", metavar="[REV|A..B]...", nargs=-1, shell_complete=complete_revision)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@click.option(
    "--metric", "selected", multiple=True, metavar="NAME", help="Show only this metric. Repeatable."
)
@click.option(
    "-n", "most", type=click.IntRange(0), metavar="N", help="Show only the newest N commits."
)
@json_option(
    {
        "metrics": "the names of all metrics, sorted",
        "commits": "the oldest first: `id`, `revision` (branch and step as the commit was made), "
        "`step`, `time`, `metrics` (NaN and infinite values as text)",
    }
)
@click.pass_context
def command(
    ctx: click.Context,
    revs: tuple[str, ...],
    as_csv: bool,
    selected: tuple[str, ...],
    most: int | None,
    as_json: bool,
) -> None:
    """Show the metrics of each commit, the oldest first.

    REV is a revision, whose history is shown, or a range. Without REV, the active branch is shown.
    Commits without metrics are omitted.

    \b
    Examples:
      gradient metrics --metric val_loss
      gradient metrics main@100..main@500 --csv > run.csv
    """
    repo = find_repository(ctx)
    active = active_branch(repo)
    oids: dict[Oid, None] = {}
    for text in revs or ("latest",):
        oids.update(dict.fromkeys(reversed(repo.resolve_range(text, branch=active).oids)))
    commits = [(oid, repo.read_commit(oid)) for oid in oids]
    recorded = {name for _, commit in commits for name in commit.metrics}
    names = [name for name in selected if name in recorded] if selected else sorted(recorded)
    shown = [
        (oid, commit) for oid, commit in commits if not commit.metrics.keys().isdisjoint(names)
    ]
    if most is not None:
        shown = shown[max(len(shown) - most, 0) :]
    if as_json:
        output.document({"metrics": names, "commits": [_describe(*each, names) for each in shown]})
    elif as_csv:
        output.pages(_csv(shown, names))
    elif shown:
        head = [("commit", *names)]
        rows = [(commit.revision, *_cells(commit, names)) for _, commit in shown]
        output.pages(output.aligned([*head, *rows]))
    else:
        there = f"no metric {', '.join(selected)}; recorded: {', '.join(sorted(recorded))}"
        output.note(there if selected and recorded else "no metrics recorded")


def _describe(oid: Oid, commit: CommitRecord, names: list[str]) -> dict[str, Any]:
    metrics = {name: commit.metrics[name] for name in names if name in commit.metrics}
    return {
        "id": str(oid),
        "revision": commit.revision,
        "step": commit.step,
        "time": commit.time,
        "metrics": output.plain_numbers(metrics),
    }


def _cells(commit: CommitRecord, names: list[str]) -> Iterator[str]:
    return (value(commit.metrics[name]) if name in commit.metrics else "" for name in names)


def _csv(commits: list[tuple[Oid, CommitRecord]], names: list[str]) -> Iterator[str]:
    yield _row(["id", "branch", "step", "time", *names])
    for oid, commit in commits:
        # repr: the shortest digits that read back as the same number.
        cells = [repr(commit.metrics[name]) if name in commit.metrics else "" for name in names]
        yield _row([str(oid), commit.branch, str(commit.step), commit.time, *cells])


def _row(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
