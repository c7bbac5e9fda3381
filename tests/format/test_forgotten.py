"""Archived repos with forgotten commits: every later version reads what they kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradient.errors import ForgottenError
from gradient.repo.repository import Repository
from tools import make_forgotten_repository as tool
from tools.make_damaged_repository import unpack

HERE = Path(__file__).parent
ARCHIVES = sorted(HERE.glob("forgotten-v*.tar"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def archive(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_is_an_archive_of_this_format() -> None:
    assert tool.NAME in [path.stem for path in ARCHIVES]


def test_kept_components_are_read_as_written(archive: Path, tmp_path: Path) -> None:
    root = unpack(archive, tmp_path)
    expected = json.loads(archive.with_suffix(".json").read_text(encoding="utf-8"))
    assert tool.describe(root) == expected
    whole = json.loads((HERE / "golden-v1.json").read_text(encoding="utf-8"))["commits"]
    for oid, found in expected["commits"].items():
        for name, digest in found.get("components", {}).items():
            assert whole[oid]["components"][name] == digest


def test_reading_a_dropped_state_raises_forgotten_error(archive: Path, tmp_path: Path) -> None:
    repo = Repository.open(unpack(archive, tmp_path), workers=1)
    with pytest.raises(ForgottenError, match="main@0 was dropped on 2026-02-10"):
        repo.check_kept(repo.resolve("main@0").oid)
    with pytest.raises(ForgottenError, match="the optimizer of main@10"):
        repo.check_kept(repo.resolve("main@10").oid)


def test_the_tool_drops_the_same_states(tmp_path: Path) -> None:
    _, description = tool.make(tmp_path)
    assert description == json.loads((HERE / f"{tool.NAME}.json").read_text(encoding="utf-8"))
