"""The guide lists every class of damage, as the table has it."""

from __future__ import annotations

import re
from pathlib import Path

from gradient.maintenance.fsck.findings import CLASSES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide-fsck.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| (\w+) \| (.*) \| (.*) \|$", re.MULTILINE)


def test_the_guide_has_the_table() -> None:
    told = {row[0]: tuple(row[1:]) for row in ROW.findall(GUIDE.read_text(encoding="utf-8"))}
    assert told == {
        word: (each.severity, each.meaning, each.remedy) for word, each in CLASSES.items()
    }
