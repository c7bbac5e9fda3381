"""How fast and how small is Gradient beside what a user would pick instead?

Makes runs on the spot and saves and restores them with every system, each in a process of its own,
in turns, on the same disk. Ratios within one run are the result: times between runs, and between
machines, are not comparable. ZipNN and the published gradient-desc take part where they are there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tools.bench import chart, gpt, report
from tools.bench.gradients import OURS, PUBLISHED, has_background
from tools.bench.rounds import Bench, Outcome, Plan
from tools.bench.systems import OTHERS
from tools.bench.workloads import WORKLOADS

ROOT: Final = Path(__file__).parents[2]
"""The root of the source, from where the workers import."""

# Threads that spin while they wait would take the cores from whoever's turn it is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_QUICK_SHAPE: Final = gpt.Shape(layers=1, heads=2, width=32, context=16)
_MOST_RESTORES: Final = 3
_UNSYNCED: Final = ("full", "bf16")
"""What is done a second time, without syncs."""

_PACKAGES: Final = ("torch", "numpy", "zstandard", "blake3", "safetensors", "zipnn")


def main(arguments: list[str] | None = None) -> list[Outcome]:
    """Run the benchmark as asked, write the report, and return the figures."""
    options = parser().parse_args(arguments)
    systems = _list(options.systems) or available(options.published)
    workloads = _list(options.workloads) or list(WORKLOADS)
    rounds = options.rounds or (2 if options.quick else 5)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as scratch:
        plan = Plan(
            workloads,
            systems,
            options.size or (2 if options.quick else 100),
            rounds,
            min(rounds, _MOST_RESTORES),
            _QUICK_SHAPE if options.quick else gpt.Shape(),
            Path(scratch),
            options.published,
        )
        bench = Bench(plan)
        bench.train()
        outcomes: list[Outcome] = []
        for outcome in bench.outcomes(workloads, durable=True):
            outcomes.append(outcome)
            _write(options.out, plan, outcomes, quick=options.quick)
        unsynced = [name for name in workloads if name in _UNSYNCED and not options.quick]
        outcomes += bench.outcomes(unsynced, durable=False)
    text = _write(options.out, plan, outcomes, quick=options.quick)
    if not options.out:
        print(text)
    return outcomes


def _write(folder: str | None, plan: Plan, outcomes: list[Outcome], *, quick: bool) -> str:
    """Return the report, and write it and the picture where they go."""
    text = report.markdown(outcomes, heading(plan, quick=quick))
    if folder:
        out = Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.md").write_text(text, encoding="utf-8")
        (out / "ratios.svg").write_text(chart.svg(outcomes), encoding="utf-8")
    return text


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    made = argparse.ArgumentParser(
        prog="python -m tools.bench", description=(__doc__ or "").split("\n\n")[0]
    )
    made.add_argument("--quick", action="store_true", help="tiny states, with syncs only")
    made.add_argument("--size", type=int, metavar="MB", help="the state's size (default 100)")
    made.add_argument("--rounds", type=int, help="checkpoints after the first (default 5)")
    made.add_argument("--systems", help=f"with commas; of: {', '.join(_names())}")
    made.add_argument("--workloads", help=f"with commas; of: {', '.join(WORKLOADS)}")
    made.add_argument("--out", help="a folder for results.md and ratios.svg (default: print)")
    made.add_argument("--folder", help="where to write checkpoints (default: the system's)")
    made.add_argument(
        "--published",
        default="",
        metavar="FOLDER",
        help="where a gradient-desc wheel was unpacked (pip download --no-deps gradient-desc)",
    )
    return made


def available(published: str) -> list[str]:
    """Return the systems that can take part here."""
    names = _names()
    if importlib.util.find_spec("zipnn") is None:
        names.remove("ZipNN")
    if not published:
        names.remove(PUBLISHED)
    if not has_background():
        names.remove("Gradient background")
    return names


def heading(plan: Plan, *, quick: bool) -> str:
    """Say on what machine, with what, and how it was measured."""
    versions = ", ".join(f"{name} {version}" for name in _PACKAGES if (version := _version(name)))
    asked = "--quick" if quick else f"--size {plan.megabytes} --rounds {plan.rounds}"
    command = f"python -m tools.bench {asked}"
    return (
        f"# Gradient beside other ways to save a run\n\n"
        f"Made by `{command}` on {time.strftime('%Y-%m-%d')}. {processor()}, "
        f"{len(os.sched_getaffinity(0))} cores, {platform.system()}; Python "
        f"{platform.python_version()}, {versions}.\n\n"
        f"Every system saves in a process of its own, in turns with the others, "
        f"{plan.rounds} times after the first (the real runs as often as they have checkpoints); "
        f"every restore is into a process that has just constructed its model and optimizer, the "
        f"page cache warm. Times are medians, later bytes are means, *ratio* is that to "
        f"`torch.save`. *durable*: until a power cut would do no harm. *memory*: the peak over "
        f"what the process held before its first checkpoint. *exact*: every restore had every "
        f"bit.\n\n"
        f"![Ratios to torch.save](ratios.svg)"
    )


def processor() -> str:
    """Return what the system calls its processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.split(": ")[1] for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _names() -> list[str]:
    return [*OTHERS, PUBLISHED, *OURS]


def _list(text: str | None) -> list[str]:
    names = [] if text is None else [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in _names() and name not in WORKLOADS]
    if unknown:
        sys.exit(f"no system or workload {', '.join(unknown)}")
    return names


if __name__ == "__main__":
    main()
