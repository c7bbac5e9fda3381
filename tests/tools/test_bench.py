"""The benchmark runs, and every restore of ours is exact: nothing here looks at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.bench import __main__ as command
from tools.bench.gradients import OURS
from tools.bench.report import markdown

if TYPE_CHECKING:
    from pathlib import Path

WORKLOADS = "full,lora,real-bf16-1"


def test_a_quick_run_restores_every_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(command.ROOT)
    outcomes = command.main(
        [
            *("--quick", "--size=1", "--rounds=1", "--workloads", WORKLOADS),
            *("--systems", ",".join(["torch.save", *OURS])),
            *("--out", str(tmp_path / "out"), "--folder", str(tmp_path)),
        ]
    )
    assert [outcome.workload for outcome in outcomes] == WORKLOADS.split(",")
    for outcome in outcomes:
        for system in OURS:
            figures = outcome.figures[system]
            assert not figures.error
            assert figures.restored
            assert figures.exact, f"{outcome.workload}, {system}"
    report = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert report == markdown(outcomes, report.partition("\n\n## ")[0])
    assert (tmp_path / "out" / "ratios.svg").read_text(encoding="utf-8").startswith("<svg")


def test_an_unknown_system_is_refused() -> None:
    with pytest.raises(SystemExit, match="no system or workload floppy"):
        command.main(["--systems", "floppy"])
