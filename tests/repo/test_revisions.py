from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.errors import (
    AmbiguousRevisionError,
    MalformedRevisionError,
    UnknownRevisionError,
)
from gradient.repo import revisions
from gradient.repo.lines import Line
from gradient.repo.revisions import Revision
from tests.repo.making import commit, fork, make_repo, run

if TYPE_CHECKING:
    from pathlib import Path

    from gradient.objects.oid import Oid
    from gradient.repo.repository import Repository

PARSED = {
    "main": Revision("main", "main"),
    "exp/a.b": Revision("exp/a.b", "exp/a.b"),
    "latest": Revision("latest", "latest"),
    "HEAD": Revision("HEAD", "HEAD"),
    "main@100": Revision("main@100", "main", 100),
    "main@007": Revision("main@007", "main", 7),
    "main@latest": Revision("main@latest", "main", "latest"),
    "main~": Revision("main~", "main", None, 1),
    "main~2": Revision("main~2", "main", None, 2),
    "main@100~2~": Revision("main@100~2~", "main", 100, 3),
    "abcd": Revision("abcd", "abcd"),
    "a" * 64: Revision("a" * 64, "a" * 64),
}

MALFORMED = [
    "", " ", "@5", "main@", "main@-1", "main@1.5", "main@x", "main@1@2", "~2", "main~x", "main~-1",
    "latest@5", "HEAD@latest", "../x", "a b", "a\nb", "-main", f"main@{1 << 53}", "main~2@5",
    "\ud800",
]  # fmt: skip


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def main(repo: Repository) -> list[Oid]:
    return run(repo, "main", 0, 100, 100, 200)


def named(repo: Repository, text: str) -> tuple[Oid, str | None]:
    found = repo.resolve(text)
    return found.oid, found.branch


def unknown(repo: Repository, text: str) -> UnknownRevisionError:
    with pytest.raises(UnknownRevisionError) as caught:
        repo.resolve(text)
    return caught.value


@pytest.mark.parametrize(("text", "revision"), PARSED.items())
def test_parse(text: str, revision: Revision) -> None:
    assert revisions.parse(text) == revision


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed(text: str) -> None:
    with pytest.raises(MalformedRevisionError, match="Revisions read like"):
        revisions.parse(text)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("main", 3),
        ("main@latest", 3),
        ("main@200", 3),
        ("main@100", 2),
        ("main@0", 0),
        ("main~", 2),
        ("main~2", 1),
        ("main@100~", 1),
        ("main~3", 0),
        ("latest", 3),
        ("latest~1", 2),
        ("HEAD", 3),
    ],
)
def test_on_a_branch(repo: Repository, main: list[Oid], text: str, index: int) -> None:
    found = repo.resolve(text)

    assert found.oid == main[index]
    assert found.branch == "main"


def test_latest_means_the_active_branch(repo: Repository, main: list[Oid]) -> None:
    (other,) = run(repo, "other", 5)

    assert repo.resolve("latest").oid == main[3]
    found = repo.resolve("latest", branch="other")
    assert (found.oid, found.branch) == (other, "other")
    assert found.commit == repo.read_commit(other)
    repo.set_head("other")
    assert repo.resolve("latest").oid == other
    assert repo.resolve("HEAD").branch == "other"


def test_a_forks_line_contains_its_sources(repo: Repository, main: list[Oid]) -> None:
    fork(repo, main[1], "high_lr")

    assert repo.resolve("high_lr@0").oid == main[0]
    assert repo.resolve("high_lr@100").oid == repo.tip("high_lr")


def test_tags_and_ids_move_nobody(repo: Repository, main: list[Oid]) -> None:
    repo.refs.append("v1", main[1], after=None, reason="tag", space="tags")

    assert named(repo, "v1") == (main[1], None)
    assert named(repo, "v1~") == (main[0], None)
    for length in (12, 40, 64):
        assert named(repo, main[1].hex()[:length]) == (main[1], None)
    assert repo.resolve(main[1].hex().upper()[:12]).oid == main[1]


def test_a_branch_comes_before_an_id(repo: Repository, main: list[Oid]) -> None:
    name = main[0].hex()[:6]
    (other,) = run(repo, name, 1)

    assert repo.resolve(name).oid == other


def test_ambiguous_ids_are_listed(
    repo: Repository, main: list[Oid], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo.store, "find_prefix", lambda *_: main[:2])

    with pytest.raises(AmbiguousRevisionError) as caught:
        repo.resolve("abcd")

    assert caught.value.candidates == (
        f"{main[0].hex()[:16]} (main@0)",
        f"{main[1].hex()[:16]} (main@100)",
    )


def test_ids_that_name_nothing(repo: Repository, main: list[Oid]) -> None:
    tree = repo.read_commit(main[0]).tree

    for text in ("0" * 64, tree.hex(), "0000"):
        assert "branch, tag or commit id" in unknown(repo, text).reason


def test_a_missing_step_names_the_nearest(repo: Repository, main: list[Oid]) -> None:
    assert unknown(repo, "main@120").candidates == ("main@100", "main@200")
    assert unknown(repo, "main@900").candidates == ("main@200",)


def test_a_missing_step_names_the_lines_set_aside(repo: Repository, main: list[Oid]) -> None:
    commit(Line.open(repo, "main").moved_to(main[0]), 50)

    error = unknown(repo, "main@200")

    assert "set aside" in error.reason
    assert error.candidates[0] == "main.old1@200"


def test_an_unknown_branch_names_the_nearest(repo: Repository, main: list[Oid]) -> None:
    run(repo, "high_lr", 100)

    assert unknown(repo, "mian").candidates == ("main",)
    assert unknown(repo, "mian@100").candidates == ("main@100",)
    assert unknown(repo, "zzz@100").candidates == ("high_lr", "main")
    assert unknown(repo, "zzz").candidates == ("high_lr", "main")


def test_an_empty_branch(repo: Repository) -> None:
    assert "has no commits" in unknown(repo, "latest").reason
    run(repo, "other", 3)
    assert unknown(repo, "latest").candidates == ("other@3",)


def test_before_the_first_commit(repo: Repository, main: list[Oid]) -> None:
    assert unknown(repo, "main~4").candidates == ("main@0",)
