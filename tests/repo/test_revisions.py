from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradient.errors import (
    AmbiguousRevisionError,
    MalformedRevisionError,
    UnknownRevisionError,
)
from gradient.repo import revision_grammar
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.revision_grammar import ParsedRevision
from gradient.store import pack_catalogue
from gradient.store.index_compaction import compact
from tests.repo.making import builder, commit, fork, make_repo, run

if TYPE_CHECKING:
    from pathlib import Path

    from gradient.objects.oid import Oid

PARSED = {
    "main": ParsedRevision("main", "main"),
    "exp/a.b": ParsedRevision("exp/a.b", "exp/a.b"),
    "latest": ParsedRevision("latest", "latest"),
    "HEAD": ParsedRevision("HEAD", "HEAD"),
    "@": ParsedRevision("@", "HEAD"),
    "@~2": ParsedRevision("@~2", "HEAD", None, 2),
    "@5": ParsedRevision("@5", "", 5),
    "@{1}": ParsedRevision("@{1}", "", "{1}"),
    "@best:loss^": ParsedRevision("@best:loss^", "", "best", 1, "loss"),
    "HEAD^": ParsedRevision("HEAD^", "HEAD", None, 1),
    "main^~2^": ParsedRevision("main^~2^", "main", None, 4),
    "main@100": ParsedRevision("main@100", "main", 100),
    "main@007": ParsedRevision("main@007", "main", 7),
    "main@latest": ParsedRevision("main@latest", "main", "latest"),
    "main@last-finite": ParsedRevision("main@last-finite", "main", "last-finite"),
    "main@best:a:b~": ParsedRevision("main@best:a:b~", "main", "best", 1, "a:b"),
    "main@{3}": ParsedRevision("main@{3}", "main", "{3}"),
    "main~": ParsedRevision("main~", "main", None, 1),
    "main~2": ParsedRevision("main~2", "main", None, 2),
    "main@100~2~": ParsedRevision("main@100~2~", "main", 100, 3),
    "abcd": ParsedRevision("abcd", "abcd"),
    "a" * 64: ParsedRevision("a" * 64, "a" * 64),
}

MALFORMED = [
    "", " ", "@x", "@@", "^", "main^2", "main^@1", "main@", "main@-1", "main@1.5",
    "main@x", "main@1@2", "~2", "main~x", "main~-1", "latest@5", "HEAD@latest", "../x", "a b",
    "a\nb", "-main", f"main@{1 << 53}", "main~2@5", "\ud800",
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
def test_parse(text: str, revision: ParsedRevision) -> None:
    assert revision_grammar.parse(text) == revision


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed(text: str) -> None:
    with pytest.raises(MalformedRevisionError, match="Revisions read like"):
        revision_grammar.parse(text)


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
        ("@", 3),
        ("@^", 2),
        ("@100", 2),
        ("@{1}", 2),
        ("main^^", 1),
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
    commit(BranchWriter.open(repo, "main").moved_to(main[0]), 50)

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


# Words behind the @, and ranges ------------------------------------------------------------------


def measured(repo: Repository, branch: str, rows: list[dict[str, float]]) -> list[Oid]:
    """Commit rows of metrics at steps 0, 1, …; returns the ids."""
    line = BranchWriter.open(repo, branch).moved_to(repo.tip(branch))
    return [
        line.publish(step, builder(repo, step, metrics=row)).commit for step, row in enumerate(rows)
    ]


NAN, INF = float("nan"), float("inf")


def test_words(repo: Repository) -> None:
    rows = [
        {"loss": 3.0, "acc": 0.1},
        {"loss": 1.0, "acc": 0.4},
        {"loss": 2.0, "acc": 0.4},
        {"loss": -INF, "acc": NAN},
        {},
        {"loss": NAN, "val/loss:x": 1},
    ]
    oids = measured(repo, "main", rows)
    expected = {
        "main@last-finite": 2,
        "main@best:loss": 1,
        "main@best:loss:min": 1,
        "main@best:loss:max": 0,
        "main@best:acc:max": 2,
        "main@best:acc": 0,
        "main@best:val/loss:x": 5,
        "main@best:loss~": 0,
        "main@{0}": 5,
        "main@{2}": 3,
        "main@{5}": 0,
        "main@{2}~2": 1,
    }
    assert {text: oids.index(repo.resolve(text).oid) for text in expected} == expected
    assert repo.resolve("main@best:loss").branch == "main"


@pytest.mark.parametrize(
    ("text", "reason", "candidates"),
    [
        (
            "main@best:los",
            "no commit in the history of 'main' has a finite metric",
            ["main@best:loss"],
        ),
        ("main@{9}", "has 2 moves", ["main@{1}"]),
        ("gone@{0}", "has 0 moves", ["main"]),
        ("main@100..main@0", "unknown", []),
    ],
)
def test_misses_of_words(repo: Repository, text: str, reason: str, candidates: list[str]) -> None:
    measured(repo, "main", [{"loss": 1.0}, {"loss": 2.0}])
    if ".." in text:
        with pytest.raises(UnknownRevisionError):
            repo.resolve_range(text)
        return
    error = unknown(repo, text)
    assert reason in str(error)
    assert list(error.candidates) == candidates


@pytest.mark.parametrize(
    "text",
    ["main@best", "main@best:", "main@latest:x", "main@{}", "main@{-1}", "main@{x}", "latest@{1}"],
)
def test_malformed_words(text: str) -> None:
    with pytest.raises(MalformedRevisionError):
        revision_grammar.parse(text)


def test_nothing_finite(repo: Repository) -> None:
    measured(repo, "main", [{"loss": NAN}, {}])
    assert "finite" in str(unknown(repo, "main@last-finite"))


def test_a_deleted_branch_is_reached_through_its_log(repo: Repository, main: list[Oid]) -> None:
    tip = repo.refs.read("main")
    assert tip is not None
    repo.refs.delete("main", after=tip, reason="deleted")
    assert repo.resolve("main@{0}").oid == main[3]
    assert repo.resolve("main@{1}").oid == main[2]


def test_ranges(repo: Repository, main: list[Oid]) -> None:
    other = fork(repo, main[1], "other")
    commit(other, 150)
    line = [oid for oid, _ in repo.line("other")]
    assert repo.resolve_range("main@0..main@100").oids == (main[2], main[1])
    assert repo.resolve_range("main@0..").oids == tuple(main[:0:-1])
    assert repo.resolve_range("other..main").oids == (main[3], main[2])
    assert repo.resolve_range("main..other").oids == tuple(line[:2])
    assert repo.resolve_range("main").oids == tuple(main[::-1])
    assert repo.resolve_range("main").start is None
    for empty in ("main..main~2", "main..main"):
        with pytest.raises(UnknownRevisionError, match="the range is empty"):
            repo.resolve_range(empty)


VALUES = st.one_of(st.none(), st.floats(), st.integers(-5, 5))


@given(values=st.lists(VALUES, min_size=1, max_size=12), back=st.integers(0, 12), data=st.data())
def test_words_agree_with_a_search_by_hand(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[float | None],
    back: int,
    data: st.DataObject,
) -> None:
    repo = make_repo(tmp_path_factory.mktemp("made") / "repo")
    oids = measured(repo, "main", [{} if each is None else {"m": each} for each in values])
    finite = [
        (each, at) for at, each in enumerate(values) if each is not None and math.isfinite(each)
    ]

    def found(text: str) -> int | None:
        try:
            return oids.index(repo.resolve(text).oid)
        except UnknownRevisionError:
            return None

    if finite:
        assert found("main@last-finite") == finite[-1][1]
        low, high = min(finite)[0], max(finite)[0]
        assert found("main@best:m") == max(at for each, at in finite if each == low)
        assert found("main@best:m:max") == max(at for each, at in finite if each == high)
    else:
        assert found("main@last-finite") is found("main@best:m") is None
    expected = len(oids) - 1 - back
    assert (
        found(f"main~{back}") == found(f"main@{{{back}}}") == (expected if expected >= 0 else None)
    )
    first = data.draw(st.integers(0, len(oids) - 1))
    last = data.draw(st.integers(0, len(oids) - 1))
    if first < last:
        span = repo.resolve_range(f"main@{first}..main@{last}")
        assert span.oids == tuple(oids[last:first:-1])
    # With a ledger and without, the answers are the same.
    with_ledger = Repository.open(repo.path)
    with_ledger.store.refresh()
    compact(with_ledger.store._catalogue, with_ledger.store._storage, min_packs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_catalogue, "_FEW", 0)
        again = Repository.open(repo.path)
        assert [again.resolve(f"main@{step}").oid for step in range(len(oids))] == oids
        assert again.store.indexed_commit(oids[0]) is not None


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repo = make_repo(tmp_path_factory.mktemp("once") / "repo")
    run(repo, "main", 0, 1, 2)
    return repo


TEXT = st.text(alphabet="main@~^{}.:0123456789best-latHEAD", max_size=20)


def test_what_is_no_text_is_refused_with_an_example(once: Repository) -> None:
    for wrong in (100, True, None):
        with pytest.raises(MalformedRevisionError, match="it is not text, as in 'main@100'"):
            once.resolve(wrong)  # type: ignore[arg-type]


def test_a_range_has_two_dots(once: Repository) -> None:
    with pytest.raises(MalformedRevisionError, match="a range has two dots, as in"):
        once.resolve_range("main@0...main@2")
    assert revision_grammar.range_ends("..main@2") == ("latest", "main@2")
    assert revision_grammar.range_ends("main@0..") == ("main@0", "latest")


def test_head_at_names_what_to_type(once: Repository) -> None:
    with pytest.raises(
        MalformedRevisionError, match=r"'HEAD' takes no '@'; of the active branch: @{1}"
    ):
        once.resolve("HEAD@{1}")


@given(text=TEXT)
def test_what_parses_is_resolved_or_refused(once: Repository, text: str) -> None:
    for ask in (once.resolve, once.resolve_range):
        with contextlib.suppress(MalformedRevisionError, UnknownRevisionError):
            ask(text)
