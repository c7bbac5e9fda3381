"""A commit whose state was dropped of: what still works, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradient.errors import ConflictError, ForgottenError, MissingObjectError
from gradient.maintenance.garbage_collection import collect
from gradient.objects.oid import Oid
from gradient.repo import ref_edits
from gradient.repo.bisect import Bisection
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.damage import damaged_commits
from gradient.repo.fork import fork_commit
from gradient.repo.reachability import IntactCommits
from gradient.repo.repository import Repository
from gradient.store.pack import Pack, open_packs
from tests.repo.making import builder, make_repo

STATE = "more than the commit" * 200
POLICY = "--keep-last 2 --keep-every 100"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """Six commits on main; the second, third and fourth are forgotten."""
    repo = make_repo(tmp_path / "run")
    line = BranchWriter.open(repo, "main")
    for step in range(6):
        metrics = {"loss": 9.0 - step if step < 4 else 5.5}
        if step == 5:
            metrics = {"loss": float("nan")}
        line.publish(10 * step, builder(repo, 10 * step, metrics=metrics, state=STATE))
    forget(repo, 1, 2, 3)
    return repo


def oids(repo: Repository) -> list[Oid]:
    return [oid for oid, _ in repo.line("main")][::-1]


def forget(repo: Repository, *places: int, drop: list[str] | None = None) -> None:
    repo.retention.append([oids(repo)[place] for place in places], drop=drop, policy=POLICY)


def test_the_error_names_the_policy_and_the_nearest_kept(repo: Repository) -> None:
    with pytest.raises(ForgottenError, match="Nearest whole commit: main@40, main@0") as caught:
        repo.check_kept(repo.resolve("main@30").oid)
    error = caught.value
    assert (error.revision, error.policy) == ("main@30", POLICY)
    assert error.commit == str(oids(repo)[3])
    assert error.components == ()
    assert error.nearest == ("main@40", "main@0")
    assert f"by: gradient forget {POLICY}." in str(error)
    repo.check_kept(repo.resolve("main@40").oid)


def test_a_kept_one_of_the_same_step_is_named_by_its_id(repo: Repository) -> None:
    kept = repo.resolve("main@50").oid
    fork_commit(repo, repo.resolve("main@50"), "side")
    line = BranchWriter.open(repo, "side").moved_to(repo.tip("side"))
    line.publish(60, builder(repo, 60, state=STATE))
    again = repo.resolve("side@50").oid
    assert again != kept
    repo.retention.append([again], drop=None, policy=POLICY)
    with pytest.raises(ForgottenError) as caught:
        repo.check_kept(again)
    assert caught.value.nearest == (kept.short, "side@60")
    assert repo.resolve(caught.value.nearest[0]).oid == kept


def test_words_skip_them_and_steps_back_count_them(repo: Repository) -> None:
    assert repo.resolve("main@best:loss").commit.step == 40
    assert repo.resolve("main@last-finite").commit.step == 40
    assert repo.resolve("latest").commit.step == 50
    assert repo.resolve("main~2").commit.step == 30
    assert repo.resolve("main@30").commit.step == 30


def test_what_a_ref_names_is_whole(repo: Repository) -> None:
    forget(repo, 5)
    assert oids(repo)[5] not in repo.dropped()
    ref_edits.create_tag(repo, "good", oids(repo)[3], reason="tag", force=False)
    collect(repo, grace=0.0)
    repo.check_kept(oids(repo)[3])
    fork_commit(Repository.open(repo.path), repo.resolve("good"), "side")
    assert damaged_commits(Repository.open(repo.path)) == []
    ref_edits.delete_tag(repo, "good")
    with pytest.raises(ForgottenError):
        repo.check_kept(oids(repo)[3])


def test_one_that_was_forgotten_stands_in_for_no_lost_tip(repo: Repository) -> None:
    tip, ids = oids(repo)[-1], oids(repo)
    forget(repo, 4)
    for name in repo.storage.names("objects/pack"):
        (pack,) = open_packs(repo.storage, [name.removesuffix(".pack")])
        assert isinstance(pack, Pack)
        if tip in pack.rows["oid"].tobytes():
            repo.storage.remove(pack.name)
    found = Repository.open(repo.path, workers=1)
    assert found.tip("main") == ids[0]


def test_nothing_is_named_or_forked_that_is_gone(repo: Repository) -> None:
    collect(repo, grace=0.0)
    found = Repository.open(repo.path, workers=1)
    gone = found.resolve("main@30")
    with pytest.raises(ForgottenError):
        fork_commit(found, gone, "side")
    text = r"commit .* is not complete \(dropped by: gradient forget --keep"
    with pytest.raises(ConflictError, match=text):
        ref_edits.create_tag(found, "good", gone.oid, reason="tag", force=False)
    with pytest.raises(ConflictError, match=text):
        ref_edits.reset_branch(found, "main", gone.oid, reason="reset")
    assert found.branches() == repo.branches(), "nothing is set aside for a reset that fails"
    assert not IntactCommits(found).holds(gone.oid)
    assert IntactCommits(found).may_follow(gone.oid)


def test_a_run_that_stands_at_one_goes_on(repo: Repository) -> None:
    line = BranchWriter.open(repo, "main").moved_to(oids(repo)[3])
    collect(repo, grace=0.0)
    made = line.publish(31, builder(repo, 31))
    assert made.other == "main.old1"
    assert repo.read_commit(made.commit).parents == (oids(repo)[-2],)
    collect(repo, grace=0.0)
    assert damaged_commits(Repository.open(repo.path)) == []


def test_a_fork_of_what_goes_while_it_is_made_is_not_made(repo: Repository) -> None:
    found = Repository.open(repo.path, workers=1)
    source = found.resolve("main@0")
    other = Repository.open(repo.path, workers=1)

    def vanish() -> None:
        other.retention.append([source.oid], drop=None, policy=POLICY)
        collect(other, grace=0.0)

    take = found.leases.acquire

    def first_vanish() -> object:
        vanish()
        return take()

    found.leases.acquire = first_vanish  # type: ignore[method-assign, assignment]
    with pytest.raises(MissingObjectError):
        fork_commit(found, source, "side")
    assert found.branches() == ["main"]


def test_a_bisection_judges_what_is_there(repo: Repository) -> None:
    ids = oids(repo)
    search = Bisection.start(repo, ids[5], ids[0])
    assert search.next() == ids[4]
    search.judge("bad", ids[4])
    found = search.found()
    assert found is not None
    assert found.candidates == tuple(ids[1:5])


def test_the_message_for_components(repo: Repository) -> None:
    forget(repo, 4, drop=["optimizer"])
    with pytest.raises(ForgottenError, match="the optimizer of main@40 was dropped") as caught:
        repo.check_kept(oids(repo)[4])
    assert "gradient resume --reset-optimizer main@40" in str(caught.value)
    assert caught.value.components == ("optimizer",)
    repo.check_kept(oids(repo)[4], components=["model"])
    forget(repo, 4, drop=["ema"])
    with pytest.raises(ForgottenError, match="the ema and the optimizer of main@40 were dropped"):
        repo.check_kept(oids(repo)[4])
