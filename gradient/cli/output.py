"""The output of all commands: text, tables, JSON, errors, progress. Colour only on a terminal."""

from __future__ import annotations

import codecs
import io
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TextIO, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])

_BATCH = 256

JSON_FIELDS = "__gradient_json_fields__"
"""The attribute of a command's function that describes its ``--json`` fields."""


def colour() -> bool | None:
    """Return False if NO_COLOR is set, else None: click then checks for a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def relax_encoding(stream: TextIO) -> None:
    """Make a stream write ``?`` for characters that its encoding lacks, and file names unchanged.

    Otherwise an arrow or a Greek message would end the command on a terminal with Latin-1.
    """
    if isinstance(stream, io.TextIOWrapper):
        is_utf8 = codecs.lookup(stream.encoding).name == "utf-8"
        stream.reconfigure(errors="surrogateescape" if is_utf8 else "replace")


def error(message: str) -> None:
    """Print an error on stderr."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True, color=colour())


def note(message: str) -> None:
    """Print a note on stderr; stdout is for results."""
    click.echo(message, err=True, color=colour())


def line(text: str = "") -> None:
    """Print one line of a result."""
    click.echo(text)


def write_bytes(content: bytes) -> None:
    """Write bytes unchanged to stdout."""
    click.echo(content, nl=False)


def bold(text: str) -> str:
    """Return the text in bold."""
    return f"\x1b[1m{text}\x1b[0m"  # click.style takes ten times as long


def dim(text: str) -> str:
    """Return the text dimmed, for secondary information."""
    return f"\x1b[2m{text}\x1b[0m"


def table(rows: Iterable[Sequence[str]], *, indent: int = 2) -> None:
    """Print rows with aligned columns, separated by two spaces."""
    for each in aligned(rows, indent=indent):
        line(each)


def aligned(rows: Iterable[Sequence[str]], *, indent: int = 0) -> Iterator[str]:
    """Yield rows as lines with aligned columns."""
    rows = [list(row) for row in rows]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell + " " * (size - _width(cell)) for cell, size in zip(row, widths, strict=True))
        yield (" " * indent + "  ".join(cells)).rstrip()


def pages(lines: Iterable[str]) -> None:
    """Print lines; on a terminal, use the pager if they do not fit on the screen."""
    source = iter(lines)
    if not sys.stdout.isatty():
        for batch in iter(lambda: list(islice(source, _BATCH)), []):
            click.echo("\n".join(batch))
        return
    first = list(islice(source, max(shutil.get_terminal_size().lines - 1, 1)))
    following = next(source, None)
    if following is None:
        for each in first:
            line(each)
        return
    os.environ.setdefault("LESS", "FRX")
    click.echo_via_pager((f"{each}\n" for each in chain(first, [following], source)), colour())


def document(value: Mapping[str, Any]) -> None:
    """Print one indented JSON object, with each list item on one line.

    This takes a third of the time for thousands of commits, and lets grep find an item.
    """
    fields = (f"  {json.dumps(name)}: {_json_text(each)}" for name, each in value.items())
    click.echo("{\n" + ",\n".join(fields) + "\n}")


def _json_text(value: Any) -> str:
    if type(value) is list and value:
        items = (f"    {json.dumps(each, ensure_ascii=False)}" for each in value)
        return "[\n" + ",\n".join(items) + "\n  ]"
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")


def json_option(fields: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Add ``--json`` (as `as_json`) to a command; `fields` describes the fields of its object."""

    def decorate(function: _Function) -> _Function:
        decorated = click.option(
            "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
        )(function)
        setattr(decorated, JSON_FIELDS, dict(fields))
        return decorated

    return decorate


def plain_numbers(metrics: Mapping[str, int | float]) -> dict[str, int | float | str]:
    """Return metrics for JSON: NaN and infinite values become text (``"nan"``)."""
    return {
        name: value if math.isfinite(value) else str(float(value))
        for name, value in metrics.items()
    }


def size(count: int) -> str:
    """Return a number of bytes in readable form: ``3.2 MiB``."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1000 or unit == "TiB":
            break
    return f"{value:.1f} {unit}"


def ratio(stored: int, represented: int) -> str:
    """Return ``, 1/3.2`` for a store that takes less space than what it represents, else ``""``."""
    return f", 1/{represented / stored:.1f}" if stored and represented > stored else ""


def utc(time: str) -> str:
    """Return a stored time in readable form, to the second, with ``UTC``."""
    return f"{time.partition('.')[0].replace('T', ' ')} UTC"


def plural(count: int, what: str) -> str:
    """Return a number with its noun: ``1 anchor``, ``2 anchors``, ``2 branches``."""
    plural = f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a counter on stderr if it is a terminal; yield the function that advances it."""
    shown = sys.stderr.isatty()
    done = 0

    def advance(count: int = 1) -> None:
        nonlocal done
        done += count
        if shown:
            of = f" of {total:,}" if total is not None else ""
            click.echo(f"\r{what}: {done:,}{of}", nl=False, err=True)

    try:
        yield advance
    finally:
        if shown and done:
            click.echo(err=True)


@contextmanager
def stages(sizes: Container[str] = ()) -> Iterator[Callable[[str, int], None]]:
    """Show the current stage and its counter on stderr, if it is a terminal.

    Yield the function to call with a stage and its advance. The stages in `sizes` count bytes.
    """
    shown = sys.stderr.isatty()
    stage_name, done, drawn = "", 0, 0.0

    def draw(end: str) -> None:
        count = size(done) if stage_name in sizes else f"{done:,}"
        click.echo(f"\r{stage_name}: {count:<11}{end}", nl=False, err=True)

    def advance(stage: str, count: int) -> None:
        nonlocal stage_name, done, drawn
        if not shown:
            return
        if stage != stage_name:
            if stage_name:
                draw("\n")
            stage_name, done, drawn = stage, 0, 0.0
        done += count
        now = time.monotonic()
        if now - drawn >= _REDRAW:
            drawn = now
            draw("")

    try:
        yield advance
    finally:
        if stage_name:
            draw("\n")


_REDRAW = 0.1
"""Seconds between two redraws; a counter may change ten thousand times a second."""


def _width(cell: str) -> int:
    return len(click.unstyle(cell))


@contextmanager
def log_lines(level: int = logging.WARNING) -> Iterator[None]:
    """Show the library's log messages on stderr."""
    logger = logging.getLogger("gradient")
    handler = _NoteHandler()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


class _NoteHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())
