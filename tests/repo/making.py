"""Repos for tests, with commits that hold almost nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradient.codec.mode import Mode
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.branch_writer import BranchWriter, Build, Published
from gradient.repo.commit_builder import CommitBuilder
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME = "2026-02-10T12:34:56.000000"


def make_repo(folder: Path) -> Repository:
    """Create and open a repo."""
    create_repo(folder)
    return Repository.open(folder, workers=1)


def builder(
    repo: Repository,
    step: int,
    message: str = "",
    *,
    metrics: Mapping[str, float] | None = None,
    state: str = "",
    finite: bool | None = None,
) -> Build:
    """Return what `Line.publish` asks for: a function that stores a commit."""

    facts = CommitBuilder(
        step=step, time=TIME, message=message, metrics=metrics or {}, finite=finite
    )

    def build(branch: str, parent: Oid | None) -> Oid:
        tree = Tree({"step": step, **({"state": state} if state else {})})
        with repo.store.begin(mode=Mode.OFF) as transaction:
            oid = transaction.put(Kind.TREE, tree.to_bytes())
            return facts.write(transaction, branch, parent, oid)

    return build


def commit(line: BranchWriter, step: int, message: str = "") -> Published:
    """Publish one small commit."""
    return line.publish(step, builder(line.repo, step, message))


def run(repo: Repository, branch: str, *steps: int) -> list[Oid]:
    """Go on from the branch's tip with commits of these steps; returns their ids."""
    line = BranchWriter.open(repo, branch).moved_to(repo.tip(branch))
    return [commit(line, step).commit for step in steps]


def damage_packs(repo: Repository, *commits: Oid) -> Repository:
    """Cut off the packs of commits; return the repo as another process opens it."""
    for oid in commits:
        pack = repo.store.catalogue.index.find(oid)[0][0]
        path = Path(repo.path, ".gradient-repo", pack.name)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-3])
    return Repository.open(repo.path, workers=1)


def fork(repo: Repository, source: Oid, branch: str) -> BranchWriter:
    """Start a branch at a commit, with a commit of the same step."""
    line = BranchWriter.create(repo, branch).moved_to(source)
    commit(line, repo.read_commit(source).step)
    return line


def steps(repo: Repository, branch: str) -> list[int]:
    """Return the steps on a branch's line, oldest first."""
    return [commit.step for _, commit in repo.line(branch)][::-1]
