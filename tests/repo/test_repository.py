from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gradient.errors import (
    ContextError,
    ForeignRepoError,
    FormatVersionError,
    IntegrityError,
    InvalidNameError,
    MalformedObjectError,
    MissingObjectError,
)
from gradient.objects.oid import Oid
from gradient.repo import foreign_files
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.foreign_files import Mark
from gradient.repo.repository import Repository
from tests.repo.making import commit, make_repo, run, steps

ZIP = b"PK\x03\x04 content PK\x05\x06" + bytes(18)
OTHERS = {
    "a zip archive": ZIP,
    "an old pickle": b"\x80\x02l\n.",
    "anything": b"hello",
}
OURS = {
    "full": b"PK\x03\x04" + Mark("full", Oid(bytes(32))).to_bytes(),
    "thin": b"PK\x03\x04" + Mark("thin", Oid(bytes(range(32)))).to_bytes(),
}
DAMAGED = {
    "empty": b"",
    "zeros": bytes(4096),
    "cut": b"PK\x03\x04 conte",
}


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


def configure(repo: Repository, **fields: object) -> None:
    path = Path(repo.path, ".gradient-repo", "config.json")
    document = json.loads(path.read_text(encoding="utf-8")) | fields
    path.write_text(json.dumps({k: v for k, v in document.items() if v != "absent"}), "utf-8")


def test_there_is_no_repo(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="gradient repo init"):
        Repository.open(tmp_path)


@pytest.mark.parametrize("version", [2, 99])
def test_a_newer_format_is_refused(repo: Repository, version: int) -> None:
    configure(repo, format=version)

    with pytest.raises(FormatVersionError, match=f"format {version}.*newer gradient-desc"):
        Repository.open(repo.path)


@pytest.mark.parametrize("version", [0, -1, "1", True, 1.5, [1]])
def test_what_is_no_version_is_refused(repo: Repository, version: object) -> None:
    configure(repo, format=version)

    with pytest.raises(FormatVersionError, match="not a format version"):
        Repository.open(repo.path)


def test_a_repo_without_a_version_is_the_published_packages(repo: Repository) -> None:
    configure(repo, format="absent")

    with pytest.raises(ForeignRepoError, match=f"gradient import {repo.path}"):
        Repository.open(repo.path)


@pytest.mark.parametrize("content", OTHERS.values(), ids=list(OTHERS))
def test_another_programs_files_forbid_writing(repo: Repository, content: bytes) -> None:
    Path(repo.path, "ckpt_main_s0.pt").write_bytes(content)

    with pytest.raises(ForeignRepoError, match=r"ckpt_main_s0\.pt is not one"):
        Repository.open(repo.path).check_writable()


@pytest.mark.parametrize("kind", OURS)
def test_our_files_are_known_by_their_mark(repo: Repository, kind: str) -> None:
    path = Path(repo.path, "ckpt_main_s0.pt")
    path.write_bytes(OURS[kind])

    mark = foreign_files.read_mark(str(path))

    assert isinstance(mark, Mark)
    assert mark.kind == kind
    assert mark.to_bytes() in OURS[kind]
    repo.check_writable()


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_what_a_power_failure_leaves_stops_nobody(repo: Repository, content: bytes) -> None:
    Path(repo.path, "ckpt_main_s0.pt").write_bytes(content)
    Path(repo.path, "manifest.json").write_bytes(content)

    repo.check_writable()


def test_links_and_folders_are_nobodys_data(repo: Repository) -> None:
    Path(repo.path, "ckpt_latest.pt").symlink_to("ckpt_main_s0.pt")
    Path(repo.path, "ckpt_folder.pt").mkdir()
    Path(repo.path, "elsewhere.pt").write_bytes(ZIP)
    Path(repo.path, "ckpt_other.pt").symlink_to("elsewhere.pt")

    repo.check_writable()


@pytest.mark.parametrize(
    "entry", [{"id": "f" * 32, "ref": "main@0"}, {"step": 0, "branch": "main"}, {}, None, 3]
)
def test_another_programs_entries_forbid_writing(repo: Repository, entry: object) -> None:
    ours = {"id": "0" * 64, "ref": "main@1"}
    content = json.dumps({"checkpoints": [ours, entry]})
    Path(repo.path, "manifest.json").write_text(content, encoding="utf-8")

    with pytest.raises(ForeignRepoError, match=r"manifest\.json lists"):
        repo.check_writable()


def test_many_reasons_are_counted(repo: Repository) -> None:
    for step in range(5):
        Path(repo.path, f"ckpt_main_s{step}.pt").write_bytes(ZIP)

    with pytest.raises(ForeignRepoError, match="and 2 more"):
        repo.check_writable()


# The active branch ----------------------------------------------------------------------------


def test_head(repo: Repository) -> None:
    assert repo.head is None
    assert repo.active_branch() == "main"

    repo.set_head("exp/a")

    assert repo.head == "exp/a"
    assert repo.active_branch() == "exp/a"
    assert repo.active_branch("other") == "other"
    assert Path(repo.path, ".gradient-repo", "HEAD").read_bytes() == b"exp/a\n"


def test_head_names_a_branch(repo: Repository) -> None:
    with pytest.raises(InvalidNameError):
        repo.set_head("../x")
    for content in (b"", b"../x\n", b"\xff"):
        Path(repo.path, ".gradient-repo", "HEAD").write_bytes(content)
        with pytest.raises(MalformedObjectError, match="gradient switch"):
            _ = repo.head


# Reading --------------------------------------------------------------------------------------


def test_lines(repo: Repository) -> None:
    oids = run(repo, "main", 0, 1, 2)

    assert [oid for oid, _ in repo.line("main")] == oids[::-1]
    assert list(repo.line("nowhere")) == []
    assert repo.tips() == {"main": oids[-1]}
    assert repo.tip("nowhere") is None


def test_a_missing_commit(repo: Repository) -> None:
    with pytest.raises(MissingObjectError):
        repo.read_commit(Oid(bytes(32)))


def test_another_processs_commits_are_seen(repo: Repository) -> None:
    reader = Repository.open(repo.path)
    run(repo, "main", 0)
    assert steps(reader, "main") == [0]
    run(repo, "main", 1)
    assert steps(reader, "main") == [0, 1]


def test_reading_never_writes(repo: Repository) -> None:
    run(repo, "main", 0, 1)
    before = {path: path.stat().st_mtime_ns for path in Path(repo.path).rglob("*")}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)

    reader = Repository.open(repo.path)
    assert steps(reader, "main") == [0, 1]
    assert reader.resolve("latest~").commit.step == 0
    assert reader.head is None

    for path in before:
        if path.is_dir():
            path.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in Path(repo.path).rglob("*")} == before


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_named(repo: Repository) -> None:
    inside = Path(repo.path, ".gradient-repo")
    inside.chmod(0o555)
    try:
        with pytest.raises(OSError, match="HEAD"):
            repo.set_head("other")
    finally:
        inside.chmod(0o755)


# Lost commits ---------------------------------------------------------------------------------


def lose(repo: Repository, oid: Oid, *, truncate: bool) -> Repository:
    """Damage the pack that holds a commit; returns the repo opened anew."""
    for path in Path(repo.path, ".gradient-repo", "objects", "pack").iterdir():
        raw = path.read_bytes()
        if repo.read_commit(oid).to_bytes() in raw:
            path.unlink()
            if truncate:
                path.write_bytes(raw[: len(raw) // 2])
    return Repository.open(repo.path)


@pytest.mark.parametrize("truncate", [True, False])
def test_the_commit_before_stands_in_for_a_lost_tip(
    repo: Repository, caplog: pytest.LogCaptureFixture, *, truncate: bool
) -> None:
    oids = run(repo, "main", 0, 1, 2)

    damaged = lose(repo, oids[2], truncate=truncate)

    assert damaged.resolve("latest").oid == oids[1]
    assert damaged.tips() == {"main": oids[1]}
    assert f"({oids[2].short}) is lost" in caplog.text
    for lost in ("main@2", "main@{0}"):
        with pytest.raises(IntegrityError):
            damaged.resolve(lost)


def test_going_on_from_where_a_lost_tip_was(repo: Repository) -> None:
    oids = run(repo, "main", 0, 1, 2)

    damaged = lose(repo, oids[2], truncate=True)
    (newest,) = run(damaged, "main", 2)

    assert damaged.branches() == ["main"]
    assert damaged.read_commit(newest).parents == (oids[1],)
    assert steps(damaged, "main") == [0, 1, 2]


def test_what_is_left_of_a_branch_with_a_lost_tip_is_set_aside(repo: Repository) -> None:
    oids = run(repo, "main", 0, 1, 2)

    damaged = lose(repo, oids[2], truncate=False)
    commit(BranchWriter.open(damaged, "main"), 0, "afresh")

    assert damaged.tip("main.old1") == oids[1]


def test_a_branch_with_nothing_left(repo: Repository) -> None:
    (oid,) = run(repo, "main", 0)

    damaged = lose(repo, oid, truncate=True)

    with pytest.raises(IntegrityError):
        damaged.resolve("latest")
