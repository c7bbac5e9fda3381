from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradient.repo.repository import Repository
from tests.cli.command import call
from tests.integrations.published import Published, build, train


@pytest.fixture
def source() -> Published:
    """``theirs/pub`` with an anchor, a delta and a fork."""
    published = Published(Path.cwd() / "theirs" / "pub")
    run = build()
    anchor = published.anchor(run, "main", 0)
    train(run, 2)
    published.delta(run, "main", 2, anchor)
    published.anchor(run, "hot", 2, parent_ref="main@2")
    published.save()
    return published


def test_into_the_sources_workspace(source: Published) -> None:
    result = call("import", "theirs/pub")
    assert "3 commits in pub-imported" in result.stdout
    assert "marked as lossy: main@2" in result.stderr
    repo = Repository.open("theirs/pub-imported")
    assert [commit.step for _, commit in repo.line("hot")] == [2, 2, 0]
    assert (repo.config.name, repo.config.description) == ("pub-imported", "theirs")
    assert sorted(path.name for path in Path("theirs/pub-imported").glob("*")) == [
        ".gradient-repo",
        "ckpt_hot_s2.pt",
        "ckpt_main_s0.pt",
        "ckpt_main_s2.pt",
        "manifest.json",
    ]
    assert [path.name for path in Path("theirs/.gradient").iterdir()] == ["config.json"]
    assert "commits     3" in call("-C", "theirs", "-r", "pub-imported", "status").stdout


def test_into_a_named_place(source: Published) -> None:
    call("-w", "ours", "-r", "gpt", "import", "theirs/pub")
    assert Repository.open("ours/gpt").branches() == ["hot", "main"]
    os.chdir("ours/gpt")
    assert "2 commits" in call("branch").stdout


def test_an_existing_repo_is_not_changed(source: Published) -> None:
    call("import", "theirs/pub", "-r", "new")
    before = sorted(Path("theirs").rglob("*"))
    assert "-r NAME" in call("import", "theirs/pub", "-r", "new", code=5).stderr
    assert "-r NAME" in call("import", "theirs/pub", "-r", "pub", code=5).stderr
    assert sorted(Path("theirs").rglob("*")) == before


def test_a_source_that_cannot_be_read_leaves_nothing(source: Published) -> None:
    source.file("hot@2").write_bytes(b"damaged")
    before = sorted(Path("theirs").rglob("*"))
    assert "ckpt_hot_s2.pt" in call("import", "theirs/pub", code=3).stderr
    assert sorted(Path("theirs").rglob("*")) == before


def test_paths_that_cannot_be_imported() -> None:
    call("import", "nowhere", code=4)
    call("workspace", "init", "ws")
    call("repo", "init", "gpt", "-C", "ws")
    assert "nothing to import" in call("import", "ws/gpt", code=4).stderr


def test_a_published_repo_is_refused_by_what_writes_and_reads_history(source: Published) -> None:
    for words in (["status"], ["branch"], ["fork", "main@0", "new"], ["resume", "main@0"]):
        assert "gradient import" in call(*words, code=5).stderr
