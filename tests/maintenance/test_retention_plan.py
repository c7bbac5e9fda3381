"""Each rule keeps what it says, and some commits stay whatever the rules are."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gradient.errors import ConfigError
from gradient.maintenance.retention.forget import forget
from gradient.maintenance.retention.plan import plan
from gradient.objects.oid import Oid
from gradient.repo import ref_edits
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.merge_commit import line_for, merge_commit
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from tests.maintenance.moments import DAY
from tests.repo.making import builder, commit, make_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """Ten commits on main, and a fork at the fourth with three more."""
    repo = make_repo(tmp_path / "run")
    line = BranchWriter.open(repo, "main")
    for number in range(10):
        metrics = {"loss": abs(number - 3.4), "acc": number / 10}
        line.publish(100 * number, builder(repo, 100 * number, metrics=metrics))
    side = BranchWriter.create(repo, "side").moved_to(repo.resolve("main@300").oid)
    for step in (310, 320, 330):
        side.publish(step, builder(repo, step, metrics={"loss": float(step)}))
    return repo


def reasons(repo: Repository, keep: Keep, *, days: float = 0.0) -> dict[str, tuple[str, ...]]:
    now = datetime.now(UTC).timestamp() + days * DAY
    return {entry.revision: why for entry, why in plan(repo, keep, now=now).kept}


ALWAYS = {"main@900", "main@300", "side@330"}
RULES = {
    "last": (Keep(last=2), {"main@800", "side@320"}),
    "last none": (Keep(last=0), set()),
    "last of all": (
        Keep(last=99),
        {f"main@{100 * n}" for n in range(9)} | {"side@310", "side@320"},
    ),
    "every": (Keep(every=400), {"main@0", "main@400", "main@800"}),
    "best": (Keep(best="loss"), set()),
    "best three": (Keep(best="loss:3"), {"main@400", "main@200", "main@100"}),
    "highest": (Keep(best="acc:max:2"), {"main@800", "main@200"}),
    "both": (Keep(last=1, every=500), {"main@0", "main@500"}),
}


@pytest.mark.parametrize(("keep", "expected"), RULES.values(), ids=RULES)
def test_a_rule(keep: Keep, expected: set[str], repo: Repository) -> None:
    found = plan(repo, keep, now=0.0)
    assert {entry.revision for entry, _ in found.kept} == ALWAYS | expected
    assert len(found.leaving) == 13 - len(ALWAYS | expected)
    assert all(why for _, why in found.kept)


def test_the_reasons(repo: Repository) -> None:
    ref_edits.create_tag(repo, "good", repo.resolve("main@200").oid, reason="tag", force=False)
    found = reasons(repo, Keep(last=2, every=300, best="loss:2"))
    assert found["main@300"] == (
        "lines part there",
        "best loss (1 of 2)",
        "every 300",
    )
    assert found["main@900"] == ("tip of main", "last 2", "last finite of main", "every 300")
    assert found["main@200"] == ("tagged good", "best loss (2 of 2)")
    assert found["side@330"] == ("tip of side", "last 2", "last finite of side")


def test_the_newest_finite_commit_stays(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "run")
    line = BranchWriter.open(repo, "main")
    for step in range(6):
        loss = 1.0 if step < 3 else math.nan
        line.publish(step, builder(repo, step, metrics={"loss": loss}))
    assert reasons(repo, Keep(last=1)) == {
        "main@5": ("tip of main", "last 1"),
        "main@2": ("last finite of main",),
    }


def test_a_line_that_was_set_aside(repo: Repository) -> None:
    line = BranchWriter.open(repo, "main").moved_to(repo.resolve("main@100").oid)
    assert commit(line, 110).other == "main.old1"
    keep = Keep(last=1, aside="14d")
    found = reasons(repo, keep, days=13)
    assert found["main.old1@500"] == ("set aside for less than 14d",)
    assert "main.old1@200" in found
    assert "main@0" not in found
    found = reasons(repo, keep, days=15)
    assert "main.old1@500" not in found
    assert found["main.old1@900"][0] == "tip of main.old1"
    assert found["main@100"] == ("lines part there", "last finite of main")


def test_last_counts_what_is_whole(repo: Repository) -> None:
    forget(repo, Keep(every=200), grace=0.0)
    found = reasons(repo, Keep(last=3))
    assert {name for name, why in found.items() if "last 3" in why} == {
        *("main@900", "main@800", "main@600", "side@330", "main@300", "main@200"),
    }


def test_a_component_first_and_all_of_it_later(repo: Repository) -> None:
    first = forget(repo, Keep(last=2, drop="step"), grace=0.0)
    assert (len(first.plan.leaving), first.plan.gone) == (8, 0)
    again = forget(repo, Keep(last=2, drop="step"), grace=0.0)
    assert (len(again.plan.leaving), again.plan.gone) == (0, 8)
    assert repo.retention.table().keys() == {each.oid for each in first.plan.leaving}
    whole = forget(repo, Keep(last=2), grace=0.0)
    assert len(whole.plan.leaving) == 8
    assert all(what.components is None for what in repo.dropped().values())


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (Keep(last=1, best="los:3"), "no commit has a metric 'los'; there are: acc, loss"),
        (Keep(last=1, drop="optimzer"), "no branch has a component 'optimzer'; there are: step"),
    ],
)
def test_a_misspelt_rule_lets_go_of_nothing(keep: Keep, message: str, repo: Repository) -> None:
    with pytest.raises(ConfigError, match=message):
        forget(repo, keep)
    assert repo.storage.names("retention") == []


def test_an_empty_repo(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "run")
    assert forget(repo, Keep(last=1, best="loss", drop="optimizer")).plan.kept == ()


def test_merged_commits_stay(repo: Repository) -> None:
    sources = [repo.resolve("main@900"), repo.resolve("side@310")]
    line = line_for(repo, sources[0], "main")
    tree = repo.read_commit(sources[0].oid).tree
    merge_commit(repo, line, sources, lambda _: tree, how={}, message="m")
    assert reasons(repo, Keep(last=1))["side@310"] == ("merged",)


def test_a_rehearsal_changes_nothing_and_counts_the_same(repo: Repository) -> None:
    keep = Keep(last=2)
    planned = forget(repo, keep, grace=0.0, dry_run=True)
    assert repo.storage.names("retention") == []
    done = forget(repo, keep, grace=0.0)
    assert planned.plan == done.plan
    assert planned.collected.saved_bytes == done.collected.saved_bytes
    named: list[Oid] = [entry.oid for entry in done.plan.leaving]
    assert set(repo.retention.table()) == set(named)
    assert forget(repo, keep, grace=0.0).plan.leaving == ()
    assert len(repo.storage.names("retention")) == 1
