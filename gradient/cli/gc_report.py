"""The report of a garbage collection, for the commands that run one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from gradient.cli import output
from gradient.errors import ConfigError
from gradient.maintenance import garbage_collection
from gradient.maintenance.garbage_collection import GcResult, Progress
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import parse_span
from gradient.store import pack as packs

COLLECTED_FIELDS: Final = {
    "commits": "the number of commits reachable from a branch or tag",
    "packs": "the number of packs before",
    "stored_bytes": "their size",
    "dead": "packs without reachable data",
    "rewritten": "packs that were merged, or copied in part, into new ones",
    "written": "new packs",
    "recompressed": "how many of them are packs with a smaller encoding",
    "trashed_bytes": "the size of the packs moved to the trash",
    "saved_bytes": "the space saved once the trash is empty; approximate with `--dry-run`",
    "restored": "packs brought back from the trash because they are needed",
    "removed": "packs removed for good",
    "freed_bytes": "their size",
    "waiting": "writers whose unfinished commits prevented the removal",
    "in_trash": "packs in the trash now",
    "in_trash_bytes": "their size",
    "full": "whether the disk was too full to do all of it",
    "dry_run": "whether nothing was changed, because of `--dry-run`",
}
"""The JSON fields of a collection."""


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A time span such as ``14d``, as seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds of a number with a unit; 0 needs no unit."""
        try:
            return parse_span(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


@contextmanager
def collection_progress() -> Iterator[Progress]:
    """Show the progress of a collection on a terminal, and the library's log messages."""
    with output.log_lines(), output.stages(("copying", "recompressing")) as advance:
        yield advance


def document(result: GcResult, *, dry_run: bool) -> dict[str, Any]:
    """Return the JSON fields of a collection."""
    facts = {name: getattr(result, name) for name in GcResult.__dataclass_fields__}
    return {**facts, "dry_run": dry_run}


def print_trash(repo: Repository, result: GcResult, grace: float, *, dry_run: bool) -> None:
    """Print the contents of the trash, how to free it, and what was not done."""
    if result.in_trash and not dry_run:
        since = [garbage_collection.since_of(name) for _, name in packs.trashed(repo.storage)]
        times = [each for each in since if each is not None]
        day = ""
        if times:
            until = datetime.fromtimestamp(max(times), UTC) + timedelta(seconds=grace)
            day = f" until {until:%Y-%m-%d %H:%M} UTC"
        output.line(
            f"in the trash{day}: {output.plural(result.in_trash, 'pack')}, "
            f"{output.size(result.in_trash_bytes)}"
        )
        output.line("bring it back: gradient gc --undo; free it now: gradient gc --grace 0")
    if result.full:
        output.note("the disk is too full to do all of it; free some space, then run this again")
    if result.waiting:
        output.note(
            f"{output.plural(result.waiting, 'writer')} did not finish in time: nothing was "
            f"removed for good; run this again later"
        )
