"""A repo of another user: reading is free, writing takes a word of the user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gradient import init_repo
from gradient.engine import maintenance_worker
from gradient.errors import OwnershipError
from gradient.repo.repository import Repository
from gradient.repo.trust import SAFE_DIRECTORY, Trust
from tests.foreign_owner import SOMEBODY, give_away, needs_root
from tools.campaigns import synthetic_repo


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A repo with a commit that belongs to somebody else."""
    path = tmp_path / "shared" / "gpt"
    synthetic_repo.commit(synthetic_repo.go_on(synthetic_repo.make(path), "main"), 1, 3)
    give_away(path)
    return path


def trusting(text: str) -> Trust:
    return Trust.read({SAFE_DIRECTORY: text})


def test_what_the_variables_say() -> None:
    assert Trust.read({}) == Trust()
    assert trusting("") == Trust()
    assert trusting("/a:/b/*::*") == Trust(("/a", "/b/*", "*"))
    assert Trust.read({"SUDO_UID": "1000"}) == Trust(sudo_user=1000)
    assert Trust.read({"SUDO_UID": "me"}) == Trust.read({"SUDO_UID": "²"}) == Trust()


def test_our_own_needs_no_word(tmp_path: Path) -> None:
    synthetic_repo.make(tmp_path / "gpt").check_writable()
    Trust().check(str(tmp_path / "nothing there"))


@needs_root
def test_the_error_names_the_owner_and_the_way(foreign: Path) -> None:
    with pytest.raises(OwnershipError) as caught:
        Repository.open(foreign).check_writable()
    assert str(caught.value) == (
        f"{foreign} belongs to uid {SOMEBODY}, and you are root (uid 0): it can be read, but "
        f"nothing is written to it. If you trust its owner: "
        f"export GRADIENT_SAFE_DIRECTORY={foreign}"
    )
    assert (caught.value.repo, caught.value.owner) == (str(foreign), f"uid {SOMEBODY}")


@needs_root
def test_reading_is_free(foreign: Path) -> None:
    assert synthetic_repo.read_everything(foreign) == {"main": [1]}
    assert Repository.open(foreign).resolve("main@1").commit.step == 1


@needs_root
def test_what_is_trusted(foreign: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(foreign.parent)
    yes = [
        str(foreign),
        f"/elsewhere:{foreign}/",
        f"{foreign.parent}/*",
        f"{tmp_path}/*",
        "/*",
        "*",
        f"{link}/gpt",
        f"{link}/*",
        os.path.relpath(foreign),
    ]
    no = [str(foreign.parent), f"{foreign}/*", f"{foreign}-2", f"{foreign.parent}/g*", "/"]
    for text in yes:
        trusting(text).check(str(foreign))
    trusting(str(foreign)).check(f"{link}/gpt")
    for text in no:
        with pytest.raises(OwnershipError):
            trusting(text).check(str(foreign))


@needs_root
def test_sudo_is_its_caller(foreign: Path) -> None:
    Trust(sudo_user=SOMEBODY).check(str(foreign))
    with pytest.raises(OwnershipError):
        Trust(sudo_user=SOMEBODY + 1).check(str(foreign))


def test_only_root_is_believed_who_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is anybody's to set."""
    synthetic_repo.make(Path("gpt"))
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    with pytest.raises(OwnershipError):
        Trust(sudo_user=Path("gpt").stat().st_uid).check("gpt")


@needs_root
def test_what_others_make_of_it_is_left_to_the_owner(foreign: Path) -> None:
    config = init_repo(foreign)
    assert config.repo_path == str(foreign)
    assert not (foreign / "manifest.json").exists()


@needs_root
def test_the_maintenance_worker_may_write_where_its_engine_may(foreign: Path) -> None:
    assert "0 commits forgotten" in maintenance_worker.maintain(str(foreign), None)
