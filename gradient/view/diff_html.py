"""A comparison as one self-contained HTML page, without scripts, fonts or other files."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from gradient.checkpoint.diff import StateDiff, TensorChange, layer_of
from gradient.objects.name_list import more
from gradient.view.compare import Comparison
from gradient.view.number_format import form, heat, not_finite, number

_MOST_ROWS = 500
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; }
td, th { padding: .15rem .6rem; text-align: left; font-variant-numeric: tabular-nums; }
th { font-weight: 600; border-bottom: 1px solid #8886; }
td.n { text-align: right; }
.map td { padding: 1px; }
.map i { display: block; min-width: 1.1rem; height: 1.1rem; border-radius: 2px; }
.map td.l { padding-right: .6rem; white-space: nowrap; }
.wide { overflow-x: auto; }
.equal { background: #8882; } .structure { background: #8a2be2; }
.scale i { display: inline-block; width: 1.6rem; height: .8rem; }
.faint { opacity: .65; }
"""


def page(comparison: Comparison) -> str:
    """Return the page."""
    title = f"{escape(comparison.before)} → {escape(comparison.after)}"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f"<h1>What changed: {title}</h1>",
            *_facts(comparison),
            *(
                part
                for name, difference in comparison.tensors.items()
                for part in _component(name, difference)
            ),
            "</body></html>",
            "",
        ]
    )


def _facts(comparison: Comparison) -> Iterator[str]:
    if comparison.components:
        said = "; ".join(f"{escape(name)} {how}" for name, how in comparison.components.items())
        yield f"<p>{said}</p>"
    if not comparison.facts:
        return
    yield "<h2>Settings and circumstances</h2><table><tr><th></th><th></th><th>before</th>"
    yield "<th>after</th></tr>"
    for fact in comparison.facts:
        cells = (fact.section, fact.name, _shown(fact.before), _shown(fact.after))
        yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
    yield "</table>"


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _component(name: str, difference: StateDiff) -> Iterator[str]:
    counts = ", ".join(
        f"{difference.count(status)} {status}"
        for status in ("changed", "reshaped", "added", "removed", "equal")
        if difference.count(status)
    )
    yield f"<h2>{escape(name)}</h2><p>{len(difference.tensors)} tensors: {counts or 'none'}</p>"
    if difference.tensors:
        yield from _map(difference)
        yield from _table(difference)


def _map(difference: StateDiff) -> Iterator[str]:
    """One row for each layer, one cell for each of its tensors."""
    layers: dict[str, dict[str, TensorChange]] = {layer.name: {} for layer in difference.layers}
    for change in difference.tensors:
        layer = layer_of(change.name)
        layers[layer][change.name.removeprefix(layer).lstrip(".")] = change
    columns = sorted({part for cells in layers.values() for part in cells})
    scale = "".join(f'<i style="background:{_colour(i / 6)}"></i>' for i in range(7))
    yield f'<p class="scale">relative change 1e-6 {scale} 1 and more &nbsp; '
    yield '<i class="structure"></i> shape, added or removed</p>'
    yield '<div class="wide"><table class="map">'
    for layer, cells in layers.items():
        row = "".join(_cell(cells.get(column)) for column in columns if len(columns) <= 60)
        if len(columns) > 60:  # layers that have little in common: each its own cells
            row = "".join(_cell(cells[part]) for part in sorted(cells))
        yield f'<tr><td class="l">{escape(layer)}</td>{row}</tr>'
    yield "</table></div>"


def _cell(change: TensorChange | None) -> str:
    if change is None:
        return "<td></td>"
    said = f"{change.name}: {change.status}, relative change {number(change.relative)}"
    said = escape(", ".join(filter(None, (said, not_finite(change.sums)))))
    if change.status == "equal":
        return f'<td title="{said}"><i class="equal"></i></td>'
    if change.status != "changed":
        return f'<td title="{said}"><i class="structure"></i></td>'
    return f'<td title="{said}"><i style="background:{_colour(heat(change.relative))}"></i></td>'


def _notes(change: TensorChange) -> str:
    return "; ".join(filter(None, (form(change), not_finite(change.sums))))


def _colour(warmth: float) -> str:
    """From a pale yellow to a dark red."""
    return f"hsl({55 - 55 * warmth:.0f} 85% {82 - 45 * warmth:.0f}%)"


def _table(difference: StateDiff) -> Iterator[str]:
    rows = [change for change in difference.tensors if change.status != "equal" or change.retyped]
    if not rows:
        return
    yield '<div class="wide"><table><tr><th>tensor</th><th></th><th>relative</th>'
    yield "<th>max abs</th><th>cosine</th><th>elements changed</th><th>form</th></tr>"
    for change in rows[:_MOST_ROWS]:
        figures = (number(change.relative), number(change.max_abs), number(change.cosine))
        cells = "".join(f'<td class="n">{each}</td>' for each in figures)
        yield (
            f"<tr><td>{escape(change.name)}</td><td>{change.status}</td>{cells}"
            f'<td class="n">{change.fraction:.2%}</td><td>{escape(_notes(change))}</td></tr>'
        )
    yield "</table></div>"
    if len(rows) > _MOST_ROWS:
        yield f'<p class="faint">{more(len(rows) - _MOST_ROWS)}</p>'
