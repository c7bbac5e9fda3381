"""Fuzz one parser, or all: python -m tools.fuzz NAME --runs N --seed S.

Prints how many inputs were refused, by class, and fails at the first that is not parsed as it must
be; that input is printed. With ``--atheris``, where that is installed, coverage guides the inputs.
"""

from __future__ import annotations

import argparse
import importlib
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gradient.errors import GradientError
from tools.fuzz.mutate import mutate
from tools.fuzz.targets import Target, targets

SLOWEST = 1.0
"""Seconds of processor time that one input may take."""

MOST_BYTES = 64 << 20
"""How much memory a whole run may need beyond what it began with."""


class FuzzError(Exception):
    """A parser did what none may do."""


def run(name: str, target: Target, *, runs: int, seed: int) -> Counter[str]:
    """Give a parser so many inputs; raises FuzzError, returns what it said."""
    chance = random.Random(f"{name} {seed}")
    said: Counter[str] = Counter()
    for data in target.seeds:
        said[attempt(name, target, data)] += 0
    before = _peak()
    for _ in range(runs):
        said[attempt(name, target, mutate(chance, target.seeds))] += 1
    if _peak() - before > MOST_BYTES:
        raise FuzzError(f"{name}: memory grew by {(_peak() - before) >> 20} MiB")
    return said


def attempt(name: str, target: Target, data: bytes) -> str:
    """Parse one input; returns ``accepted``, or the class of the error that refused it."""
    begun = time.process_time()
    try:
        target.parse(data)
        verdict = "accepted"
    except GradientError as error:
        verdict = type(error).__name__
    except Exception as error:
        raise FuzzError(f"{name}: {error!r} for {data!r:.2000}") from error
    took = time.process_time() - begun
    if took > SLOWEST:
        raise FuzzError(f"{name}: {took:.1f} s for {data!r:.2000}")
    return verdict


def guided(name: str, target: Target, runs: int) -> None:
    """Let atheris choose the inputs; does not return."""
    atheris: Any = importlib.import_module("atheris")

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-runs={runs}"], lambda data: attempt(name, target, data))
    atheris.Fuzz()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("name", help="a target, or all")
    parser.add_argument("--runs", type=int, default=10_000, help="inputs for each (default 10000)")
    parser.add_argument("--seed", type=int, default=0, help="which inputs (default 0)")
    parser.add_argument("--atheris", action="store_true", help="let atheris choose the inputs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = targets(Path(scratch))
        if options.name not in (*found, "all"):
            parser.error(f"no target {options.name!r}; there are all, {', '.join(found)}")
        for name in found if options.name == "all" else [options.name]:
            if options.atheris:
                guided(name, found[name], options.runs)
            begun = time.monotonic()
            said = run(name, found[name], runs=options.runs, seed=options.seed)
            rate = options.runs / (time.monotonic() - begun)
            told = ", ".join(f"{word} {count:,}" for word, count in said.most_common() if count)
            print(f"{name}: {options.runs:,} inputs, {rate:,.0f}/s: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
