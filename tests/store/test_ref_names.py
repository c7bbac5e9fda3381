from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradient.errors import InvalidNameError
from gradient.store.ref_names import MAX_QUOTED, check_name, quote, unquote

GOOD = [
    "main",
    "feature/x",
    "v1.0",
    "lr-1e-2",
    "main.old1",
    "größe",
    "模型",
    "a" * 200,
    "Main",
    "con",
]
BAD = [
    "", "/", "/a", "a/", "a//b", ".", "..", ".a", "a/.b", "a..b", "a.", "a.lock", "a.lock/b",
    "A.LOCK", "-a", "a b", "a\tb", "a\nb", "a\0b", "a\x7fb", "a~1", "a^", "a:b", "a?", "a*", "a[b",
    "a\\b", "@", "a@b", "a@{1}", "HEAD", "head", "latest", "LATEST", "a\u202eb", "a\u2025b",
    "a\u200bb", "\ud800", "a\u00a0b", "a\u2028b", "\uff41\uff20", "a\uff0f\uff0fb", "a" * 201,
    "ä" * 40, "a\u0308", "\uff0e\uff0e", "a\U000e0001",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name: str) -> None:
    check_name(name)
    assert unquote(quote(name)) == name


@pytest.mark.parametrize("name", BAD)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(name)
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("name", "existing", "fits"),
    [
        ("main", ["main"], True),
        ("Main", ["main"], False),
        ("main", ["dev", "MAIN"], False),
        ("straße", ["STRASSE"], False),
        ("\ufb01t", ["fit"], False),
        ("main2", ["main"], True),
        ("a/b", ["a"], True),
    ],
)
def test_names_that_a_file_system_could_take_for_one(
    name: str, existing: list[str], fits: bool
) -> None:
    if fits:
        check_name(name, existing)
    else:
        with pytest.raises(InvalidNameError, match="existing"):
            check_name(name, existing)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_quoting_is_one_to_one_and_harmless(name: str) -> None:
    quoted = quote(name)
    assert unquote(quoted) == name
    assert set(quoted) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-%")


@given(st.text(min_size=0, max_size=12))
def test_every_name_that_passes_has_a_safe_folder(name: str) -> None:
    try:
        check_name(name)
    except InvalidNameError:
        return
    quoted = quote(name)
    assert quoted not in (".", "..")
    assert len(quoted) <= MAX_QUOTED
    assert not quoted.startswith((".", "-"))


@pytest.mark.parametrize("quoted", ["", "%", "%4", "%41", "%2F", "A", "a/b", "%zz", "%ff", "%61"])
def test_what_quote_does_not_return_is_not_a_name(quoted: str) -> None:
    expected = {"%41": "A"}.get(quoted)
    assert unquote(quoted) == expected


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")
def test_git_accepts_what_we_accept() -> None:
    for name in GOOD[:-1]:
        done = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True)
        assert done.returncode == 0, name
