"""HTML for notebooks; all text from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def card(title: str, facts: Mapping[str, object]) -> str:
    """Return a title with named facts below it; those that are None or empty are left out."""
    rows = "".join(
        f'<tr><th style="text-align:left">{_text(name)}</th>'
        f'<td style="text-align:left">{_text(value)}</td></tr>'
        for name, value in facts.items()
        if value is not None and value != ""
    )
    return f"<div><b>{_text(title)}</b><table>{rows}</table></div>"


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a title with a table below it."""
    top = "".join(f'<th style="text-align:left">{_text(name)}</th>' for name in head)
    body = "".join(
        "<tr>"
        + "".join(f'<td style="text-align:left">{_text(cell)}</td>' for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<div><b>{_text(title)}</b><table><tr>{top}</tr>{body}</table></div>"


def _text(value: object) -> str:
    return escape("" if value is None else str(value), quote=True)
