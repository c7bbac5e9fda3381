"""No damage goes unnoticed, and none makes a commit read differently: a sample of all cases.

`python -m tools.sweep` judges every case (docs/reliability.md has the result).
"""

from __future__ import annotations

from pathlib import Path

from tools import sweep


def test_a_sample_of_all_damage_is_noticed_or_harmless(tmp_path: Path) -> None:
    counts = sweep.sweep(tmp_path, sample=300, seed=20260210)
    assert counts["wrong"] == 0
    assert counts["silent"] == 0
    assert counts["noticed"] > 250


def test_the_cases_are_all_there(tmp_path: Path) -> None:
    root = sweep.build(tmp_path)
    kinds = [case.name.split()[0] for case in sweep.cases(root)]
    size = sum((root.parent / name).stat().st_size for name in sweep.files(root))
    assert kinds.count("flip") == 8 * size
    assert kinds.count("cut") == size
    assert {"extend", "folder", "link", "swap"} <= set(kinds)
