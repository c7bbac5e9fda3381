"""`gradient branch`: list, create, rename and delete branches."""

from __future__ import annotations

from typing import Any

import click

from gradient.cli import output
from gradient.cli.commit_format import value
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.errors import UnknownRevisionError
from gradient.repo import branch_names, ref_edits
from gradient.repo.history import History, Summary
from gradient.repo.repository import Repository
from gradient.repo.revision_grammar import split_metric
from gradient.view.updates import follow_refs


@click.command("branch")
@location_options
@click.argument("names_", metavar="[NAME [REV]]", nargs=-1, shell_complete=complete_revision)
@click.option("-v", "--verbose", is_flag=True, help="Also show each tip's time and message.")
@click.option(
    "--metric",
    metavar="NAME[:max]",
    help="Also show a metric at each tip, and its best value in the branch's history.",
)
@click.option(
    "-m", "--move", "rename", is_flag=True, help="Rename OLD (the active branch): -m [OLD] NEW."
)
@click.option("-d", "-D", "--delete", is_flag=True, help="Delete the branch NAME.")
@click.option("-a", "--all", "-l", "--list", is_flag=True, hidden=True, expose_value=False)
@json_option(
    {
        "active": "the active branch, which need not have commits yet",
        "branches": "one object per branch: `name`, `active`, `tip` (commit id), `step`, "
        "`commits`, `anchors`, `deltas`, `fork_point` (the revision where it left another branch, "
        "or null), `set_aside` (whether it was set aside or diverted), `time`, `message`, "
        "`metrics`; with `--metric` also `best` (`revision`, `value`; or null)",
    }
)
@click.pass_context
def command(
    ctx: click.Context,
    names_: tuple[str, ...],
    verbose: bool,
    metric: str | None,
    rename: bool,
    delete: bool,
    as_json: bool,
) -> None:
    """List the branches, or create, rename or delete one.

    NAME starts at REV (by default the latest commit) and gets no commit of its own. To train on
    it, switch to it. The commits of a deleted branch stay reachable as NAME@{0}.

    \b
    Examples:
      gradient branch -v --metric val_loss
      gradient branch idea main@100
      gradient branch -m idea warm-restart
      gradient branch -d warm-restart
    """
    repo = find_repository(ctx)
    if names_ or rename or delete:
        _change(ctx, repo, names_, rename=rename, delete=delete)
        return
    active = active_branch(repo)
    history = History(repo, on_damage="skip")
    rows = [describe(repo, history, each, active) for each in history.summaries()]
    if metric is not None:
        for row in rows:
            row["best"] = _best(repo, row["name"], metric)
    if as_json:
        output.document({"active": active, "branches": rows})
        return
    if not rows:
        output.note(f"no commits yet; the active branch is {active}")
        return
    output.pages(output.aligned([_cells(row, verbose, metric) for row in rows]))


def _change(
    ctx: click.Context, repo: Repository, given: tuple[str, ...], *, rename: bool, delete: bool
) -> None:
    if rename and delete:
        raise click.UsageError("-m and -d cannot be combined", ctx)
    fitting = {1} if delete else {1, 2}
    if len(given) not in fitting:
        usage = "[OLD] NEW" if rename else "NAME" if delete else "NAME [REV]"
        raise click.UsageError(f"give {usage}", ctx)
    if not rename and not delete:
        resolved = repo.resolve((*given, "latest")[1], branch=active_branch(repo))
    repo.check_writable()
    if rename and len(given) == 1:
        given = (active_branch(repo), *given)
    if rename:
        ref_edits.rename_branch(repo, *given)
        output.line(f"renamed {given[0]} to {output.bold(given[1])}")
    elif delete:
        oid = ref_edits.delete_branch(repo, given[0])
        output.line(f"deleted branch {given[0]} (was {oid.short})")
        output.note(f"to restore it: gradient branch {given[0]} '{given[0]}@{{0}}'")
    else:
        ref_edits.create_branch(
            repo, given[0], resolved.oid, reason=f"branch at {resolved.revision}"
        )
        output.line(f"{output.bold(given[0])} is at {resolved.revision}")
        if given[0] in repo.refs.names(space="tags"):
            output.note(f"{given[0]} is also a tag; from now on, name the tag's commit by its id")
    repo.store.compact_indexes()
    follow_refs(repo)


def _best(repo: Repository, branch: str, metric: str) -> dict[str, Any] | None:
    name, _ = split_metric(metric)
    try:
        resolved = repo.resolve(f"{branch}@best:{metric}")
    except UnknownRevisionError:
        return None
    return {"revision": f"{branch}@{resolved.commit.step}", "value": resolved.commit.metrics[name]}


def describe(repo: Repository, history: History, each: Summary, active: str) -> dict[str, Any]:
    """Return the JSON fields of one branch."""
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
        "set_aside": branch_names.is_beside(each.branch),
        "time": tip.time,
        "message": tip.message,
        "metrics": output.plain_numbers(tip.metrics),
    }


def summary_cells(row: dict[str, Any]) -> list[str]:
    """Return the columns that all lists of branches share."""
    name = output.bold(row["name"]) if row["active"] else row["name"]
    fork = f"from {row['fork_point']}" if row["fork_point"] else ""
    return [
        f"{'*' if row['active'] else ' '} {name}",
        f"step {row['step']}",
        output.plural(row["commits"], "commit"),
        fork,
    ]


def _cells(row: dict[str, Any], verbose: bool, metric: str | None) -> list[str]:
    cells = [*summary_cells(row), output.dim(row["tip"][:10])]
    if verbose:
        message = row["message"].splitlines()
        cells += [output.utc(row["time"]), message[0] if message else ""]
    if metric is not None:
        name, _ = split_metric(metric)
        best = row["best"]
        last = row["metrics"].get(name)
        cells.append("" if last is None else f"{name}={last if type(last) is str else value(last)}")
        cells.append(f"best {value(best['value'])} at {best['revision']}" if best else "")
    return cells
