"""`gradient log`: list the commits of one or all branches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import click

from gradient.cli import output
from gradient.cli.commit_format import JSON_FIELDS, CommitFormatter
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.objects import timestamp
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.repo import revision_grammar, topo_order
from gradient.repo.repository import Repository

_AGO = re.compile(r"([0-9]{1,6}) *(m|h|d|w)(?:in|our|ay|eek)?(?:ute)?s?(?: ago)?")
_COUNT = re.compile(r"^-([0-9]+)$")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Time(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A time in UTC: ``2026-02-10``, ``2026-02-10T12:30``, or how long ago: ``3d``, ``2 hours``."""

    name = "WHEN"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the time in the format of commits."""
        ago = _AGO.fullmatch(str(value))
        try:
            if ago is not None:
                moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            else:
                moment = datetime.fromisoformat(str(value))
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time such as 2026-02-10, 2026-02-10T12:30 or 3d", param, ctx
            )
        return timestamp.encode(moment)


class LogCommand(click.Command):
    """A command that accepts ``-5`` for ``-n 5``, as git does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Replace ``-5`` by ``-n5``."""
        return super().parse_args(ctx, [_COUNT.sub(r"-n\1", each) for each in args])


@click.command("log", cls=LogCommand)
@location_options
@click.argument("revs", metavar="[REV|A..B]...", nargs=-1, shell_complete=complete_revision)
@click.option("--oneline", is_flag=True, help="Print one line for each commit.")
@click.option("--graph", is_flag=True, help="Draw the history as a graph.")
@click.option("--all", "all_refs", is_flag=True, help="Show all branches and tags.")
@click.option(
    "-n",
    "--max-count",
    "most",
    type=click.IntRange(0),
    metavar="N",
    help="Show at most N commits; -5 means -n 5.",
)
@click.option("--decorate", is_flag=True, hidden=True, expose_value=False)
@click.option("--since", type=Time(), help="Show only commits since then: 2026-02-10, 3d, 2 hours.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Also show this metric. Repeatable."
)
@json_option(
    {
        "commits": f"the newest first, each with {JSON_FIELDS}",
        "unreadable": "the ids of damaged or lost commits; the reflogs give the commits before "
        "them, so that the history continues",
    }
)
@click.pass_context
def command(
    ctx: click.Context,
    revs: tuple[str, ...],
    oneline: bool,
    graph: bool,
    all_refs: bool,
    most: int | None,
    since: str | None,
    metrics: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show commits, the newest first.

    Without REV, the active branch is shown. A..B means the commits of B that A does not have.
    Several revisions, --all and --graph show all reachable commits, including merged branches.

    \b
    Examples:
      gradient log -n 5 --metric loss
      gradient log --oneline --graph --all
      gradient log main@100..main@500
    """
    repo = find_repository(ctx)
    active = active_branch(repo)
    if not revs and repo.tip(active) is None and not (all_refs and repo.branches()):
        if as_json:
            output.document({"commits": [], "unreadable": []})
        else:
            output.note(f"no commits yet; the active branch is {active}")
        return
    selected = _select(repo, revs, active, all_refs=all_refs, graph=graph)
    if since is not None:
        # In one history, times decrease unless a clock was set; a graph must have no gaps.
        test = takewhile if graph else filter
        selected = test(lambda each: each[1].time >= since, selected)
    commits = islice(selected, most)
    formatter = CommitFormatter(repo, active)
    if as_json:
        listed = [formatter.document(*each) for each in commits]
        output.document({"commits": listed, "unreadable": formatter.unreadable})
    elif graph:
        output.pages(_graph(repo, formatter, commits, metrics, oneline=oneline))
    elif oneline:
        output.pages(_lines(formatter, commits, metrics))
    else:
        output.pages(_paragraphs(formatter, commits, metrics))


def _select(
    repo: Repository, revs: tuple[str, ...], active: str, *, all_refs: bool, graph: bool
) -> Iterator[tuple[Oid, CommitRecord]]:
    if len(revs) == 1 and revision_grammar.is_range(revs[0]) and not all_refs:
        span = repo.resolve_range(revs[0], branch=active)
        return ((oid, repo.read_commit(oid)) for oid in span.oids)
    tips = [repo.resolve(rev, branch=active).oid for rev in revs]
    if all_refs:
        tags = repo.refs.tips("tags").values()
        tips += [*repo.tips().values(), *(each.commit for each in tags if each.commit is not None)]
    if not tips:
        tips = [repo.resolve("latest", branch=active).oid]
    if len(tips) == 1 and not graph:
        return repo.walk(tips[0], on_damage="skip")
    return topo_order.newest_first(repo, tips)


def _lines(
    formatter: CommitFormatter,
    commits: Iterable[tuple[Oid, CommitRecord]],
    metrics: tuple[str, ...],
) -> Iterator[str]:
    for oid, commit in commits:
        yield formatter.line(oid, commit, metrics)
        yield from formatter.unreadable_lines(commit)


def _paragraphs(
    formatter: CommitFormatter,
    commits: Iterable[tuple[Oid, CommitRecord]],
    metrics: tuple[str, ...],
) -> Iterator[str]:
    for number, each in enumerate(commits):
        if number:
            yield ""
        yield from formatter.paragraph(*each, metrics)
        if gap := [*formatter.unreadable_lines(each[1])]:
            yield from ("", *gap)


def _graph(
    repo: Repository,
    formatter: CommitFormatter,
    commits: Iterable[tuple[Oid, CommitRecord]],
    metrics: tuple[str, ...],
    *,
    oneline: bool,
) -> Iterator[str]:
    listed = list(commits)
    rows = topo_order.draw((oid, topo_order.parents(repo, oid)) for oid, _ in listed)
    for (above, own), each in zip(rows, listed, strict=True):
        yield from above
        lines = iter([formatter.line(*each, metrics)])
        if not oneline:
            lines = formatter.paragraph(*each, metrics)
        yield f"{own}  {next(lines)}"
        beside = own.replace("*", "|")
        yield from (
            f"{beside}  {line}".rstrip() for line in (*lines, *formatter.unreadable_lines(each[1]))
        )
        if not oneline:
            yield beside
