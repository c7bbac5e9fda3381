"""Figures as a picture: bars of ratios to `torch.save`, as plain SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from tools.bench.gradients import OURS
from tools.bench.rounds import BASELINE, Figures, Outcome

_LABEL, _BAR, _ROW, _GAP, _MARGIN = 190, 380, 18, 40, 20
_MOST = 3.0


def svg(outcomes: Iterable[Outcome]) -> str:
    """Return the picture: for each workload the time until durable, and the bytes."""
    body: list[str] = []
    height = _MARGIN
    for outcome in outcomes:
        base = outcome.figures.get(BASELINE)
        if not outcome.durable or base is None or base.error or not base.later:
            continue
        panel = list(_panel(outcome, base, height))
        body.extend(panel)
        height += _GAP + _ROW * len(outcome.figures)
    width = 2 * (_LABEL + _BAR) + 3 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + _MARGIN}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" '
        f'fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _panel(outcome: Outcome, base: Figures, top: int) -> Iterator[str]:
    for column, (title, unit) in enumerate(
        (("time until durable", base.durable()), ("bytes of later checkpoints", base.later_bytes()))
    ):
        left = _MARGIN + column * (_LABEL + _BAR + _MARGIN)
        text = f"{outcome.workload}: {title}, {BASELINE} = 1"
        yield f'<text x="{left}" y="{top + 14}" font-weight="bold">{escape(text)}</text>'
        for row, (name, figures) in enumerate(outcome.figures.items()):
            y = top + 22 + row * _ROW
            yield f'<text x="{left}" y="{y + 12}">{escape(name)}</text>'
            if figures.error or not figures.later:
                yield f'<text x="{left + _LABEL}" y="{y + 12}" fill="#999">failed</text>'
                continue
            ratio = (figures.durable() if column == 0 else figures.later_bytes()) / unit
            length = max(1.0, min(ratio, _MOST) / _MOST * (_BAR - 60))
            colour = "#2a6fb0" if name in OURS else "#b8b8b8"
            note = f"{ratio:.3g}" + ("" if figures.exact else " (not exact)")
            yield (
                f'<rect x="{left + _LABEL}" y="{y + 2}" width="{length:.0f}" height="{_ROW - 5}" '
                f'fill="{colour}"/><text x="{left + _LABEL + length + 5:.0f}" y="{y + 12}">'
                f"{escape(note)}</text>"
            )
