"""Archived damaged repos: every later version reports the same findings and commits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradient.maintenance.fsck.repair import repair
from tools import make_damaged_repository as tool

HERE = Path(__file__).parent
ARCHIVES = sorted(HERE.glob("damaged-v*.tar"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def archive(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_is_a_damaged_repo_of_this_format() -> None:
    assert tool.NAME in [path.stem for path in ARCHIVES]


def test_fsck_reports_the_same_findings(archive: Path, tmp_path: Path) -> None:
    found = tool.describe(tool.unpack(archive, tmp_path))
    assert found == json.loads(archive.with_suffix(".json").read_text(encoding="utf-8"))
    assert len({finding["id"] for finding in found["findings"]}) >= 10


def test_repair_saves_the_intact_objects(archive: Path, tmp_path: Path) -> None:
    root = tool.unpack(archive, tmp_path)
    done = repair(str(root), workers=1)
    assert set(done.after.damaged) < set(done.before.damaged)
    assert done.healed
    left = {finding.id for finding in done.after.findings if finding.severity == "error"}
    assert left <= {"object-missing", "ref-tip-lost", "commit-parent"}


def test_the_tool_makes_the_same_archive(tmp_path: Path) -> None:
    content, _ = tool.make(tmp_path)
    assert content == (HERE / f"{tool.NAME}.tar").read_bytes()
