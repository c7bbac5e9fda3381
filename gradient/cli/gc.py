"""`gradient gc`: remove what no branch or tag leads to any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from gradient.cli import output
from gradient.cli.output import json_option
from gradient.cli.place import find_repository, place_options
from gradient.maintenance import collection
from gradient.maintenance.collection import Collected
from gradient.repo.repository import Repository
from gradient.store import pack as packs

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Duration(click.ParamType[float]):
    """A time span such as ``14d``, as seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number and a unit; a bare 0 is none."""
        text = str(value)
        digits, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "")
        if not digits.isascii() or not digits.isdigit() or (not unit and int(digits)):
            self.fail(f"{text!r} is no time span; write 0, or a number and s, m, h, d or w: 14d")
        return float(int(digits) * _UNITS.get(unit, 0))


@click.command("gc")
@place_options
@click.option(
    "--grace",
    type=Duration(),
    default="7d",
    show_default=True,
    help="Keep the trash, and what branches led to before, for so long (0, 30m, 12h, 14d). "
    "0 frees the space at once, and is as safe beside a training run.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--undo", is_flag=True, help="Bring back everything that is in the trash.")
@json_option(
    {
        "commits": "the number of commits that are kept",
        "packs": "how many packs there were",
        "stored_bytes": "their length",
        "dead": "packs that nothing needs",
        "rewritten": "packs of which only a part was copied into new ones, or that were merged",
        "written": "new packs",
        "trashed_bytes": "the length of what went to the trash",
        "saved_bytes": "how much less there is once the trash is empty, about",
        "restored": "packs brought back from the trash, because something needs them",
        "removed": "packs removed for good",
        "freed_bytes": "their length",
        "waiting": "writers in the middle of a commit, because of whom nothing was removed",
        "in_trash": "packs in the trash now",
        "in_trash_bytes": "their length",
        "full": "whether there was no room to do all of it",
        "dry_run": "whether all this was only looked up",
    }
)
@click.pass_context
def command(ctx: click.Context, grace: float, dry_run: bool, undo: bool, as_json: bool) -> None:
    """Remove what no branch or tag leads to, and merge small packs.

    What is removed lies in the trash first, from where --undo brings it back until the grace is
    over. Runs may go on committing meanwhile.
    """
    if undo and dry_run:
        raise click.UsageError("--undo and --dry-run exclude each other")
    repo = find_repository(ctx)
    if undo:
        _undo(repo, as_json=as_json)
        return
    with output.log_lines(), output.progress("collecting") as advance:
        done = collection.collect(
            repo, grace=grace, dry_run=dry_run, progress=lambda _, count: advance(count)
        )
    if as_json:
        facts = {name: getattr(done, name) for name in Collected.__dataclass_fields__}
        output.document({**facts, "dry_run": dry_run})
        return
    _print(done, grace, dry_run=dry_run)
    oldest = [collection.since_of(name) for _, name in packs.trashed(repo.storage)]
    if done.in_trash and not dry_run:
        times = [since for since in oldest if since is not None]
        until = (
            datetime.fromtimestamp(max(times), UTC) + timedelta(seconds=grace) if times else None
        )
        day = "" if until is None else f" until {until:%Y-%m-%d %H:%M} UTC"
        output.line(
            f"in the trash{day}: {output.amount(done.in_trash, 'pack')}, "
            f"{output.size(done.in_trash_bytes)}"
        )
        output.line("bring it back: gradient gc --undo; free it now: gradient gc --grace 0")
    if done.full:
        output.note("there was no room to do all of it; once something was freed, run it again")
    if done.waiting:
        output.note(
            f"{output.amount(done.waiting, 'writer')} did not end in time: nothing was removed for "
            f"good; run it again later"
        )


def _print(done: Collected, grace: float, *, dry_run: bool) -> None:
    output.line(
        f"{output.amount(done.commits, 'commit')} kept, in {output.amount(done.packs, 'pack')} of "
        f"{output.size(done.stored_bytes)}"
    )
    would = "would go" if dry_run else "went"
    if done.dead or done.rewritten:
        output.line(
            f"{output.amount(done.dead, 'pack')} that nothing needs {would} to the trash, "
            f"{done.rewritten:,} {'would be' if dry_run else 'were'} rewritten: "
            f"{output.size(done.saved_bytes)} less in the end"
        )
    else:
        output.line("nothing to collect")
    if done.restored:
        output.line(f"{output.amount(done.restored, 'pack')} came back from the trash")
    if done.removed:
        verb = "would be" if dry_run else "were"
        output.line(
            f"{output.amount(done.removed, 'pack')} in the trash {verb} removed for good: "
            f"{output.size(done.freed_bytes)}"
        )


def _undo(repo: Repository, *, as_json: bool) -> None:
    count, size = collection.undo(repo)
    if as_json:
        output.document({"restored": count, "restored_bytes": size})
    elif count:
        output.line(f"{output.amount(count, 'pack')} of {output.size(size)} are back")
    else:
        output.line("the trash is empty")
