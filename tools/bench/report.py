"""Figures as Markdown: a table per workload, the bounds, and what is worse."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator

from tools.bench.bounds import bounds
from tools.bench.gradients import DEFAULT, OURS
from tools.bench.rounds import BASELINE, Figures, Outcome
from tools.bench.workloads import WORKLOADS

_COLUMNS = (
    "system",
    *("durable", "ratio", "caller waits", "ratio"),
    *("first bytes", "later bytes"),
    *("restore first", "ratio", "restore later", "ratio"),
    *("memory", "exact"),
)
_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"


def markdown(outcomes: list[Outcome], head: str) -> str:
    """Return the whole report."""
    parts = [head]
    synced = [outcome for outcome in outcomes if outcome.durable]
    parts.append(
        "## The bounds\n\nRatios of medians within this run.\n\n"
        "| bound | limit | measured | met |\n|---|---|---|---|\n" + "\n".join(bounds(synced))
    )
    parts.append("## Where Gradient is worse\n\n" + "\n".join(worse(synced)))
    for title, durable in (("With syncs", True), ("Without syncs", False)):
        mine = [outcome for outcome in outcomes if outcome.durable is durable]
        if mine:
            parts.append(f"## {title}")
            parts.extend(_table(outcome) for outcome in mine)
    return "\n\n".join(parts) + "\n"


def _table(outcome: Outcome) -> str:
    base = outcome.figures.get(BASELINE)
    size = max(figures.nbytes for figures in outcome.figures.values())
    lines = [
        f"### {outcome.workload}\n\n{WORKLOADS[outcome.workload].about}. The state has "
        f"{_size(size)}; {BASELINE} writes {_size(base.first_bytes()) if base else '-'}.",
    ]
    if outcome.deepcopy:
        lines.append(
            f"A plain copy of the state dicts: {_ms(statistics.median(outcome.deepcopy))}; "
            f"hashing the state on one core: {_ms(statistics.median(outcome.hashing))}."
        )
    lines.append(_HEAD)
    rows = (_row(name, figures, base) for name, figures in outcome.figures.items())
    return "\n\n".join(lines) + "\n" + "\n".join(rows)


def _row(name: str, figures: Figures, base: Figures | None) -> str:
    if figures.error or not figures.later:
        return f"| {name} | failed: {figures.error or 'no checkpoint'} " + "| " * 11 + "|"
    base = base if base is not None and base.later and not base.error else None
    cells = [name]
    for get in (Figures.durable, Figures.blocked):
        cells += [_ms(get(figures)), _ratio(get(figures), None if base is None else get(base))]
    cells += [_size(figures.first_bytes()), _size(figures.later_bytes())]
    for first in (True, False):
        mine = figures.restore(first=first)
        theirs = None if base is None else base.restore(first=first)
        cells += [_ms(mine), _ratio(mine, theirs)]
    memory = figures.memory()
    cells += ["-" if memory is None else _size(memory), "yes" if figures.exact else "**no**"]
    return f"| {' | '.join(cells)} |"


def worse(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Yield a line for each figure in which another system beats Gradient's default."""
    lines = []
    for outcome in outcomes:
        mine = outcome.figures.get(DEFAULT)
        others = {
            name: figures
            for name, figures in outcome.figures.items()
            if name not in OURS and figures.later and not figures.error
        }
        if mine is None or not mine.later or mine.error:
            lines.append(f"- {outcome.workload}: Gradient has no figures")
            continue
        for what, get in _COMPARED.items():
            own = get(mine)
            best = min(((get(f) or float("inf"), name) for name, f in others.items()), default=None)
            if own is None or best is None or own <= best[0] * 1.02:
                continue
            inexact = "" if others[best[1]].exact else ", which restores other bits"
            lines.append(
                f"- {outcome.workload}, {what}: {own / best[0]:.2f} times {best[1]}'s{inexact}"
            )
    yield from lines or ["- nowhere in this run"]


_COMPARED = {
    "time to durable": Figures.durable,
    "time the caller waits": Figures.blocked,
    "bytes of the first checkpoint": Figures.first_bytes,
    "bytes of later checkpoints": Figures.later_bytes,
    "restoring the first": lambda figures: figures.restore(first=True),
    "restoring a later one": lambda figures: figures.restore(first=False),
    "memory": Figures.memory,
}


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.0f} ms"


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one is not None and other else "-"


def _size(nbytes: float) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if nbytes >= scale:
            return f"{nbytes / scale:.2f} {unit}"
    return f"{nbytes:.0f} B"
