"""Names from someone else, for branches, tags, repos and files: none leads out of the folder."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from pathlib import Path

import pytest

from gradient.errors import GradientError
from gradient.objects.oid import Oid
from gradient.repo import ref_edits
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage.directory import DirectoryStorage
from gradient.view.file_names import file_name
from gradient.view.updates import ViewUpdater
from tests.repo.making import commit, make_repo

SLASHES = ["/", "\\", "%2f", "%2F", "%5c", "%252f", "\u2215", "\u2044", "\uff0f"]
DOTS = ["..", "%2e%2e", "%252e%252e", "\uff0e\uff0e", "\u2025", ". .", ".\u200b."]
UP = [slash.join([dots] * 3 + ["outside", "kept"]) for dots in DOTS for slash in SLASHES]
ABSOLUTE = [
    "/etc/passwd",
    "//etc/passwd",
    "C:\\windows",
    "C:evil",
    "\\\\host\\share",
    "~",
    "~root/x",
]
RESERVED = [
    "CON",
    "NUL",
    "con.txt",
    "AUX",
    "COM1",
    "LPT1.pack",
    "HEAD",
    "config.json",
    "refs",
    "tmp",
]
CONTROL = [f"a{chr(number)}b" for number in (*range(32), 127, 0x85, 0x2028, 0x202E, 0x200F, 0xFEFF)]
ENDS = [
    "a.",
    "a ",
    " a",
    ".a",
    "a..",
    "a.lock",
    "a.lock/b",
    "-a",
    "--help",
    "a/",
    "/a",
    "a//b",
    ".",
]
LONG = ["x" * 300, "ä" * 200, "a/" * 200 + "b", "%" * 120, "x" * 10_000]
ODD = [
    "",
    "@",
    "a@{1}",
    "a:b",
    "a?b",
    "a*b",
    "a[b",
    "a^b",
    "a~1",
    "\ud800",
    "\udcff",
    "a\ud83d",
    "$(x)",
]
ENCODED = [
    "%00",
    "a%00b",
    "%",
    "%4",
    "%zz",
    "%u002e%u002e/x",
    "..%00/x",
    "..;/x",
    "....//x",
    "..%c0%af",
]
CASES = ["Main", "MAIN", "mAiN", "main\u0301", "ma\u0131n", "\u212aey", "stra\u00dfe", "STRASSE"]
PREFIXED = [f"{start}{end}" for start in ("a/", "refs/heads/") for end in (*DOTS, *RESERVED, *ENDS)]
NAMES = sorted(
    {*UP, *ABSOLUTE, *RESERVED, *CONTROL, *ENDS, *LONG, *ODD, *ENCODED, *CASES, *PREFIXED}
)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """Return a repo with one commit, in a workspace beside which other things lie."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    init_workspace(tmp_path / "work")
    made = make_repo(tmp_path / "work" / "run")
    commit(BranchWriter.open(made, "main"), 1)
    return made


def outside_of(folder: Path, *inside: Path) -> dict[str, str]:
    """Hash everything that is not inside of these folders."""
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
        if not any(path.is_relative_to(each) for each in inside)
    }


def test_there_are_enough() -> None:
    assert len(NAMES) >= 200


@pytest.mark.parametrize("part", range(8))
def test_refs_and_view_files_stay_inside(part: int, repo: Repository, tmp_path: Path) -> None:
    tip = repo.tip("main")
    assert tip is not None
    before = outside_of(tmp_path, Path(repo.path))
    refused = 0
    for name in NAMES[part::8]:
        for attempt in (
            lambda name=name: ref_edits.create_branch(repo, name, tip),
            lambda name=name: ref_edits.create_tag(repo, name, tip, reason="x", force=True),
            lambda name=name: repo.set_head(name),
            lambda name=name: commit(BranchWriter.open(repo, name), 2),
            lambda name=name: repo.resolve(name),
        ):
            try:
                attempt()
            except GradientError:
                refused += 1
        if not any("\ud800" <= letter <= "\udfff" for letter in name):
            path = Path(repo.path, file_name(name, 1))
            assert path.parent == Path(repo.path)
    assert refused > len(NAMES) // 8
    ViewUpdater(repo, "thin").add(tip)
    heads = Path(repo.path, ".gradient-repo", "refs", "heads")
    assert all(path.parent == heads for path in heads.iterdir())
    assert outside_of(tmp_path, Path(repo.path)) == before


def test_repos_and_storages_stay_inside(repo: Repository, tmp_path: Path) -> None:
    work = tmp_path / "work"
    storage = DirectoryStorage(Path(repo.path, ".gradient-repo"))
    inside = [tmp_path / "new", Path(repo.path, ".gradient-repo")]
    before = outside_of(tmp_path, *inside)
    for number, name in enumerate(NAMES):
        for attempt in (
            lambda name=name, n=number: create_repo(work / f"../../{tmp_path.name}/new/{n}", name),
            lambda name=name: storage.put_derived(name, b"x"),
            lambda name=name: storage.put_if_absent(f"refs/{name}", b"x"),
            lambda name=name: storage.read(name),
            lambda name=name: storage.remove(name),
        ):
            with contextlib.suppress(GradientError):
                attempt()
    assert outside_of(tmp_path, *inside) == before


def test_objects_have_no_names_that_lead_anywhere() -> None:
    for text in itertools.islice(NAMES, 0, None, 3):
        with pytest.raises(GradientError):
            Oid.parse(text)
