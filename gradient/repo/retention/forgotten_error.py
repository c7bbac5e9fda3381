"""The error for a commit whose state was dropped, with the nearest commits that were kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gradient.errors import ForgottenError, IntegrityError
from gradient.objects.oid import Oid
from gradient.repo.graph import Graph
from gradient.store.retention_log import Dropped


def check(repo: Graph, oid: Oid, components: Collection[str] | None) -> None:
    """Raise ForgottenError if the state of a commit, or one of `components`, was dropped."""
    if oid not in repo.retention.table():
        return
    table = repo.dropped()
    what = table.get(oid)
    if what is None:
        return
    lost = what.components or ()
    if what.components is not None and components is not None:
        lost = tuple(name for name in lost if name in components)
        if not lost:
            return
    branch, nearest = _nearest(repo, oid, table)
    revision = f"{branch}@{repo.read_commit(oid).step}"
    raise ForgottenError(
        revision,
        commit=str(oid),
        policy=what.policy,
        time=what.time,
        components=lost,
        nearest=nearest,
    )


def _nearest(repo: Graph, oid: Oid, table: Mapping[Oid, Dropped]) -> tuple[str, tuple[str, ...]]:
    """Return a branch with the commit in its history, and the kept ones around it by distance."""
    commit = repo.read_commit(oid)
    for branch in sorted(repo.branches(), key=lambda name: (name != commit.branch, name)):
        around = _around(repo, branch, oid, table)
        if around is not None:
            kept = sorted(around.items(), key=lambda each: (abs(each[1] - commit.step), -each[1]))
            return branch, tuple(name for name, _ in kept)
    return commit.branch, ()


def _around(
    repo: Graph, branch: str, oid: Oid, table: Mapping[Oid, Dropped]
) -> dict[str, int] | None:
    """Return the kept neighbours of a commit with their steps; None if the branch lacks it."""
    found: dict[str, int] = {}
    after: dict[str, int] = {}
    newer: set[int] = set()
    passed = False
    for at, step in _steps(repo, branch):
        # Two commits of a branch may have one step, which names the newer one.
        name = at.short if step in newer else f"{branch}@{step}"
        newer.add(step)
        if at == oid:
            passed = True
            found |= after
        elif at not in table:
            if passed:
                return found | {name: step}
            after = {name: step}
    return found if passed else None


def _steps(repo: Graph, branch: str) -> Iterator[tuple[Oid, int]]:
    try:
        yield from (
            (at, link.step) for at, link in repo.walk_links(repo.tip(branch), on_damage="skip")
        )
    except IntegrityError:
        return
