"""What Gradient promises about speed and size, and whether a run of the benchmark shows it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tools.bench.gradients import DEFAULT
from tools.bench.rounds import BASELINE, Figures, Outcome

_ANCHORS: Final = "Gradient anchors"
_BEHIND: Final = "Gradient background"
_MIB: Final = 1 << 20

Measure = Callable[["Found"], float | None]


class Found:
    """Figures by workload and system; what was not measured is None."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._outcomes = {outcome.workload: outcome for outcome in outcomes}

    def figures(self, workload: str, system: str = DEFAULT) -> Figures | None:
        """Return what a system did, if it did all of it."""
        outcome = self._outcomes.get(workload)
        found = None if outcome is None else outcome.figures.get(system)
        return found if found is not None and found.later and not found.error else None

    def reference(self, workload: str, what: str) -> float | None:
        """Return the median of a plain copy (`deepcopy`) or of `hashing`, in seconds."""
        outcome = self._outcomes.get(workload)
        times = [] if outcome is None else getattr(outcome, what)
        return statistics.median(times) if times else None


@dataclass(frozen=True)
class Bound:
    """One promise, and what was measured."""

    what: str
    """What is bounded, and against what."""
    limit: float
    """The most, or the least."""
    measure: Measure
    """Reads it from figures."""
    at_least: bool = False
    """Whether the limit is the least."""

    def row(self, found: Found) -> str:
        """Return the row of a table."""
        measured = self.measure(found)
        sign = "≥" if self.at_least else "≤"
        if measured is None:
            return f"| {self.what} | {sign} {self.limit:g} | not measured | |"
        met = measured >= self.limit if self.at_least else measured <= self.limit
        verdict = "yes" if met else "**no**"
        return f"| {self.what} | {sign} {self.limit:g} | {measured:.2f} | {verdict} |"


def bounds(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the rows of the table of bounds."""
    found = Found(outcomes)
    return [bound.row(found) for bound in BOUNDS]


def _against(get: Callable[[Figures], float | None], workload: str, system: str) -> Measure:
    """Divide a figure of Gradient's by that of the baseline."""

    def measure(found: Found) -> float | None:
        mine, base = found.figures(workload, system), found.figures(workload, BASELINE)
        if mine is None or base is None:
            return None
        return _ratio(get(mine), get(base))

    return measure


def _time(workload: str, system: str = DEFAULT) -> Measure:
    return _against(Figures.durable, workload, system)


def _shrinks(
    workload: str,
    system: str = DEFAULT,
    size: Callable[[Figures], float] = Figures.later_bytes,
) -> Measure:
    return _against(lambda figures: 1 / size(figures), workload, system)


def _median(workload: str) -> Measure:
    return _shrinks(workload, size=Figures.median_bytes)


def _resume(*, first: bool) -> Measure:
    return _against(lambda figures: figures.restore(first=first), "full", DEFAULT)


def _bytes(workload: str, unit: Callable[[Figures], float]) -> Measure:
    def measure(found: Found) -> float | None:
        mine = found.figures(workload)
        return None if mine is None else _ratio(mine.later_bytes(), unit(mine))

    return measure


def _memory(system: str, unit: Callable[[Figures], float]) -> Measure:
    def measure(found: Found) -> float | None:
        mine = found.figures("full", system)
        return None if mine is None else _ratio(mine.memory(), unit(mine))

    return measure


def _sparse(found: Found) -> float | None:
    """Look at the commit after the anchor: later ones have drifted from it by as much again."""
    mine, base = found.figures("sparse"), found.figures("sparse", BASELINE)
    if mine is None or base is None:
        return None
    return base.later[0].written / mine.later[0].written


def _hashing(found: Found) -> float | None:
    mine = found.figures("frozen")
    return None if mine is None else _ratio(mine.durable(), found.reference("frozen", "hashing"))


def _copying(found: Found) -> float | None:
    mine = found.figures("full", _BEHIND)
    return None if mine is None else _ratio(mine.blocked(), found.reference("full", "deepcopy"))


def _async(found: Found) -> float | None:
    mine, other = found.figures("full", _BEHIND), found.figures("full", "DCP async_save")
    return None if mine is None or other is None else _ratio(mine.blocked(), other.blocked())


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


BOUNDS: Final = [
    Bound("full, every commit an anchor: time / torch.save", 1.0, _time("full", _ANCHORS)),
    Bound("full, deltas: time / torch.save", 1.0, _time("full")),
    Bound("full, no deltas: torch.save / bytes", 1.2, _shrinks("full", _ANCHORS), at_least=True),
    Bound(
        "real fp32, median of ten: torch.save / bytes", 1.3, _median("real-fp32-10"), at_least=True
    ),
    Bound(
        "real fp32, mean of ten: torch.save / bytes", 1.3, _shrinks("real-fp32-10"), at_least=True
    ),
    Bound("real bf16, 10 steps: torch.save / bytes", 2.1, _shrinks("real-bf16-10"), at_least=True),
    Bound("sparse, 99 % as in the anchor: torch.save / bytes", 50, _sparse, at_least=True),
    Bound(
        "sparse, all commits in a row: torch.save / bytes", 50, _shrinks("sparse"), at_least=True
    ),
    Bound("lora, second commit on: time / torch.save", 0.25, _time("lora")),
    Bound("lora: bytes / trained bytes", 1.3, _bytes("lora", lambda f: f.trained)),
    Bound("lora, wide: time / torch.save", 0.25, _time("lora-wide")),
    Bound("lora, wide: bytes / trained bytes", 1.3, _bytes("lora-wide", lambda f: f.trained)),
    Bound("nothing changed: KiB written", 64, _bytes("frozen", lambda _: 1024)),
    Bound("nothing changed: time / hashing on one core", 2.0, _hashing),
    Bound("background, full: wait / deepcopy", 1.5, _copying),
    Bound("background, full: wait / DCP async_save's", 1.0, _async),
    Bound("resume an anchor: time / torch.load + load_state_dict", 1.5, _resume(first=True)),
    Bound("resume a delta: time / torch.load + load_state_dict", 2.0, _resume(first=False)),
    Bound("fork: KiB written", 16, _bytes("fork", lambda _: 1024)),
    Bound("full: MiB of memory over the state", 64, _memory(DEFAULT, lambda _: _MIB)),
    Bound(
        "background, full: memory / (state + 64 MiB)",
        1.1,
        _memory(_BEHIND, lambda figures: figures.nbytes + 64 * _MIB),
    ),
]
"""Everything that is promised."""
