"""A writer that dies, or is refused, at any one call to the file system."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from typing import TYPE_CHECKING

import pytest

from gradient.errors import GradientIOError
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs
from tests.repo.making import commit, make_repo, run, steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gradient.objects.oid import Oid


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Countdown:
    """Lets so many calls pass, and answers the next, or all from then on, with an exception."""

    def __init__(self, calls: int, error: BaseException, *, forever: bool) -> None:
        self.left = calls
        self.error = error
        self.forever = forever
        self.hit = False

    def __call__(self, call: fs.Call) -> None:
        self.left -= 1
        if self.left < 0 and (self.forever or not self.hit):
            self.hit = True
            raise self.error


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / f"repo{number}" for number in itertools.count())


def prepare(folder: Path) -> tuple[list[Oid], BranchWriter]:
    """Make a repo with a history; returns that, and a writer that was rewound to its beginning."""
    repo = make_repo(folder)
    oids = run(repo, "main", 0, 10, 20)
    return oids, BranchWriter.open(repo, "main").moved_to(oids[0])


def check(folder: Path, oids: list[Oid], acknowledged: list[Oid]) -> None:
    """Nothing that was acknowledged is lost, and everything that is named is there."""
    repo = Repository.open(folder)
    reachable = set(History(repo).entries)
    assert reachable >= {*oids, *acknowledged}
    for branch in repo.branches():
        assert steps(repo, branch) == sorted(steps(repo, branch))


def test_killed_at_any_call(folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for number, folder in enumerate(folders):
        oids, line = prepare(folder)
        countdown = Countdown(number, Killed(), forever=True)
        acknowledged: list[Oid] = []
        with monkeypatch.context() as patch:
            patch.setattr(fs.calls, "observer", countdown)
            with contextlib.suppress(Killed):
                acknowledged.append(commit(line, 5).commit)
        check(folder, oids, acknowledged)
        again = BranchWriter.open(Repository.open(folder), "main").moved_to(oids[0])
        acknowledged.append(commit(again, 6).commit)
        check(folder, oids, acknowledged)
        if not countdown.hit:
            break


@pytest.mark.parametrize(("code", "forever"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_refused_at_any_call(
    folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch, code: int, *, forever: bool
) -> None:
    codes: set[int | None] = set()
    for number, folder in enumerate(folders):
        oids, line = prepare(folder)
        countdown = Countdown(number, OSError(code, os.strerror(code)), forever=forever)
        acknowledged: list[Oid] = []
        with monkeypatch.context() as patch:
            patch.setattr(fs.calls, "observer", countdown)
            try:
                acknowledged.append(commit(line, 5).commit)
            except GradientIOError as error:
                codes.add(error.errno)
        check(folder, oids, acknowledged)
        # The same writer goes on when the fault is over, on its branch.
        acknowledged.append(commit(line, 6).commit)
        check(folder, oids, acknowledged)
        assert line.branch == "main"
        assert set(Repository.open(folder).branches()) == {"main", "main.old1"}
        if not countdown.hit:
            break
    assert codes == {code}
