"""A repo that an early program wrote is read for ever, to the last bit."""

from __future__ import annotations

import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from gradient.checkpoint import reader
from gradient.codec.frame import Codec
from gradient.maintenance.fsck.check import check
from gradient.repo.discovery import find_repo, find_workspace
from gradient.repo.repository import Repository
from gradient.store import pack_format
from tools import make_golden_repository as golden

HERE = Path(__file__).parent
ARCHIVES = sorted(HERE.glob("golden-v*.tar"))


def unpack(archive: Path, folder: Path) -> Repository:
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return Repository.open(folder / archive.stem / "gpt", workers=1)


def expected(archive: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(archive.with_suffix(".json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def archive(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_is_a_golden_repo_of_this_format() -> None:
    assert golden.NAME in [path.stem for path in ARCHIVES]


def test_every_commit_reads_as_it_was_written(archive: Path, tmp_path: Path) -> None:
    repo = unpack(archive, tmp_path)
    assert golden.describe(repo) == expected(archive)
    assert not repo.store.problems


def test_fsck_finds_nothing(archive: Path, tmp_path: Path) -> None:
    repo = unpack(archive, tmp_path)
    report = check(repo.path, workers=1)
    assert not [finding for finding in report.findings if finding.severity == "error"]
    assert not report.damaged


def test_the_golden_repo_is_small(archive: Path) -> None:
    assert archive.stat().st_size < 100 << 10


def test_it_is_found_and_its_revisions_resolve(archive: Path, tmp_path: Path) -> None:
    repo = unpack(archive, tmp_path)
    assert find_repo(repo.path) == repo.path
    assert find_workspace(repo.path) == str(Path(repo.path).parent)
    assert repo.branches() == [golden.FORK, "main", "main.old1"]
    assert [commit.step for _, commit in repo.line("main")] == [15, 10, 0]
    assert [commit.step for _, commit in repo.line("main.old1")] == [30, 20, 10, 0]
    assert repo.resolve("v1").oid == repo.resolve("main.old1@20").oid
    assert repo.resolve("latest").commit.step == 25
    kinds = [record.kind for record in repo.refs.log("gone")]
    assert kinds == ["move", "delete"]


def test_tied_weights_are_tied_again(archive: Path, tmp_path: Path) -> None:
    repo = unpack(archive, tmp_path)
    for _, commit in repo.line("main"):
        model = reader.read_state(repo.store, commit.tree, components=["model"])["model"]
        assert model["head.weight"].data_ptr() == model["wte.weight"].data_ptr()
        assert type(model["head.weight"]) is torch.nn.Parameter


def test_it_has_every_kind_and_every_codec(tmp_path: Path) -> None:
    """So that a reader that forgets one of them fails here."""
    repo = unpack(HERE / f"{golden.NAME}.tar", tmp_path)
    rows = []
    for path in sorted(Path(repo.path).glob(".gradient-repo/objects/pack/*.pack")):
        content = path.read_bytes()
        offset, _, count = struct.unpack_from("<QQI", content, len(content) - 96)
        rows += [struct.unpack_from("<BBB", content, offset + 52 * n + 48) for n in range(count)]
    kinds, codecs, flags = map(set, zip(*rows, strict=True))
    assert kinds == set(pack_format.KINDS)
    assert codecs == set(Codec)
    assert flags == {0, 1}


def test_the_tool_makes_the_same_repo_twice(tmp_path: Path) -> None:
    first, description = golden.make(tmp_path / "one")
    second, _ = golden.make(tmp_path / "two")
    assert first == second
    assert len(first) < 100 << 10
    before = expected(HERE / f"{golden.NAME}.json")["commits"].values()
    found = description["commits"].values()
    digests = sorted(commit["components"].items() for commit in found)
    assert digests == sorted(commit["components"].items() for commit in before)
