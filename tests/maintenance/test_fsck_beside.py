"""A check while others commit, delete, forget and collect: it calls nothing of that damage."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from gradient.maintenance.fsck.check import check
from gradient.maintenance.garbage_collection import collect
from gradient.maintenance.retention.forget import forget
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from gradient.storage import fs
from tests.maintenance import rig
from tests.repo.making import make_repo
from tests.storage.faults import observed
from tools.campaigns.synthetic_repo import commit, delete, go_on

STRIDE = 23
"""Of the calls that a check makes, each so many-th is where something happens."""


def commits(repo: Repository) -> None:
    commit(go_on(repo, "main"), 9, 0, 200)


def collects(repo: Repository) -> None:
    collect(repo, grace=0.0)


def deletes_and_collects(repo: Repository) -> None:
    delete(repo, "side")
    collect(repo, grace=0.0)


def goes_on_and_forgets(repo: Repository) -> None:
    commit(go_on(repo, "main"), 9, 300)
    forget(repo, Keep(last=1), grace=0.0)


HAPPENS: dict[str, Callable[[Repository], None]] = {
    "a commit": commits,
    "a collection that writes packs anew": collects,
    "the end of a branch, and a collection": deletes_and_collects,
    "a commit, and the one before is forgotten": goes_on_and_forgets,
}


def made(path: Path) -> Repository:
    """Make a repo of two branches; of its first pack most is waste."""
    repo = make_repo(path)
    commit(go_on(repo, "old"), 0, *range(0, 160, 8))
    main = go_on(repo, "main")
    for step in range(3):
        commit(main, step, 0, 8 + step)
    commit(BranchWriter.create(repo, "side").moved_to(repo.tip("main")), 3, 160)
    delete(repo, "old")
    return repo


@pytest.mark.parametrize("happens", HAPPENS.values(), ids=HAPPENS)
def test_what_happens_meanwhile_is_no_damage(
    happens: Callable[[Repository], None], tmp_path: Path
) -> None:
    for number in itertools.count(0, STRIDE):
        repo = made(tmp_path / str(number))
        left = number

        def watch(call: fs.Call, repo: Repository = repo) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                happens(repo)

        with observed(watch):
            report = check(repo.path, workers=1)
        if left >= 0:
            assert number > 5 * STRIDE
            return
        bad = [each for each in report.findings if each.severity != "info"]
        assert bad == [], f"at call {number}"


def test_damage_is_found_beside_a_writer_that_never_rests(tmp_path: Path) -> None:
    repo = made(tmp_path / "run")
    line = go_on(repo, "main")
    (lost,) = {path for path in rig.packs(Path(repo.path)) if repo.tip("side") in path.read_bytes()}
    lost.unlink()
    steps = itertools.count(10)

    def watch(call: fs.Call) -> None:
        if call.operation == "list" and call.path.endswith("refs/heads"):
            with observed(None):
                commit(line, next(steps), 0)

    with observed(watch):
        report = check(repo.path, workers=1)
    assert "ref-tip-lost" in rig.words(report)
