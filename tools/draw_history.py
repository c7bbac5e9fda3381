"""Draw docs/history.svg: the commits of one run, a rewind and a fork.

The colours are readable on a light page and on a dark one. With --check nothing is written; the
exit status is 1 if the file differs from the drawing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).resolve().parent.parent / "docs" / "history.svg"

WIDTH, HEIGHT = 860, 290
LEFT, PER_STEP = 60, 1.2
RADIUS = 9
TEXT, MAIN, ASIDE, FORK = "#737d88", "#2f81f7", "#8b949e", "#d4762c"


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch's commits, drawn in one row."""

    name: str
    row: int
    """The height of its row, in pixels from the top."""

    colour: str
    steps: tuple[int, ...]
    """The steps of its commits."""

    parent: tuple[int, int] | None = None
    """The step and the row of the commit that its first commit continues."""

    dash: str = ""


BRANCHES = (
    Branch("main.old1", 70, ASIDE, (300, 400), parent=(200, 140), dash="5 5"),
    Branch("main", 140, MAIN, (0, 100, 200, 300, 400, 500)),
    Branch("high_lr", 210, FORK, (300, 400, 500), parent=(300, 140)),
)
NOTES = (
    (200, 172, "middle", ("resume main@200",)),
    (238, 58, "end", ("a rewind sets the old commits aside:", "nothing is lost")),
    (284, 207, "end", ("fork main@300 high_lr --scale-lr 10", "shares its data: about 1 KiB")),
)
"""Text at a step's place: the step, the height, the anchor and the lines."""


def place(step: int) -> float:
    """Return the horizontal position of a step."""
    return LEFT + PER_STEP * step


def path_of(branch: Branch) -> str:
    """Return the path through a branch's commits, from the commit that it continues."""
    first, *rest = branch.steps
    x, y = place(first), branch.row
    start = f"M{x:g} {y}"
    if branch.parent is not None:
        step, row = branch.parent
        begin = place(step)
        bend = (x - begin) / 2  # a straight line down if both have the same step
        start = f"M{begin:g} {row} C{begin + bend:g} {row} {x - bend:g} {y} {x:g} {y}"
    return " ".join([start, *(f"L{place(step):g} {branch.row}" for step in rest)])


def drawing() -> str:
    """Return the picture as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="ui-sans-serif, system-ui, Helvetica, '
        f'Arial, sans-serif" font-size="14" fill="{TEXT}">',
        "<title>The history of a run: the branch main, a rewind to step 200, "
        "and the fork high_lr from step 300</title>",
    ]
    for branch in BRANCHES:
        dash = f' stroke-dasharray="{branch.dash}"' if branch.dash else ""
        lines.append(
            f'<path d="{path_of(branch)}" fill="none" stroke="{branch.colour}" '
            f'stroke-width="3"{dash}/>'
        )
    for branch in BRANCHES:
        lines.extend(
            f'<circle cx="{place(step):g}" cy="{branch.row}" r="{RADIUS}" fill="{branch.colour}"/>'
            for step in branch.steps
        )
        x = place(branch.steps[-1]) + 22
        lines.append(
            f'<text x="{x:g}" y="{branch.row + 5}" font-weight="bold" '
            f'fill="{branch.colour}">{branch.name}</text>'
        )
    for step, y, anchor, texts in NOTES:
        lines.extend(
            f'<text x="{place(step):g}" y="{y + 18 * number}" text-anchor="{anchor}">{text}</text>'
            for number, text in enumerate(texts)
        )
    lines.extend(
        f'<text x="{place(step):g}" y="{HEIGHT - 16}" text-anchor="middle">'
        f"{'step ' if step == 0 else ''}{step}</text>"
        for step in BRANCHES[1].steps
    )
    return "\n".join([*lines, "</svg>", ""])


def main() -> int:
    """Write or compare the file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    if parser.parse_args().check:
        if PATH.read_text(encoding="utf-8") == drawing():
            return 0
        print("docs/history.svg is not up to date: python tools/draw_history.py", file=sys.stderr)
        return 1
    PATH.write_text(drawing(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
