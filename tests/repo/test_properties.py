"""Whatever several writers do to a repo, in whatever order, these hold."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from gradient.errors import BranchExistsError, StepError
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.history import History
from tests.repo.making import commit, make_repo, steps

if TYPE_CHECKING:
    from gradient.objects.oid import Oid
    from gradient.repo.repository import Repository

WRITERS = 3
BRANCHES = ("main", "other")

number = st.integers(0, 50)
operations = st.lists(
    st.tuples(
        st.sampled_from(["commit", "commit", "commit", "attach", "resume", "fork"]),
        st.integers(0, WRITERS - 1),
        number,
        number,
    ),
    max_size=30,
)


@dataclass
class World:
    """A repo, its writers, and what was promised."""

    repo: Repository
    writers: list[BranchWriter] = field(default_factory=list)
    acknowledged: list[Oid] = field(default_factory=list)

    def apply(self, operation: str, who: int, one: int, other: int) -> None:
        """Let one writer do one thing."""
        writer = self.writers[who]
        if operation == "attach":
            self.writers[who] = BranchWriter.open(self.repo, BRANCHES[one % len(BRANCHES)])
        elif operation == "commit":
            try:
                done = commit(writer, other, f"{who} {len(self.acknowledged)}")
            except StepError:
                return
            self.acknowledged.append(done.commit)
            assert self.repo.read_commit(done.commit).branch == done.branch == writer.branch
            assert self.repo.tip(done.branch) == done.commit
        elif self.acknowledged:
            source = self.acknowledged[one % len(self.acknowledged)]
            if operation == "resume":
                self.writers[who] = BranchWriter.open(self.repo, writer.branch).moved_to(source)
                return
            try:
                line = BranchWriter.create(self.repo, f"fork{other % 4}").moved_to(source)
            except BranchExistsError:
                return
            self.writers[who] = line
            step = self.repo.read_commit(source).step
            self.acknowledged.append(commit(line, step, f"fork {len(self.acknowledged)}").commit)


@settings(max_examples=60)
@given(operations)
def test_nothing_is_lost_and_every_line_is_linear(
    history: list[tuple[str, int, int, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(make_repo(Path(folder, "repo")))
        world.writers = [BranchWriter.open(world.repo, "main") for _ in range(WRITERS)]
        for operation in history:
            world.apply(*operation)
        repo, found = world.repo, History(world.repo)

        assert set(found.entries) == set(world.acknowledged)
        for branch in repo.branches():
            assert steps(repo, branch) == sorted(steps(repo, branch))
        for entry in found.newest():
            assert repo.resolve(entry.revision).oid == entry.oid
        for branch in repo.branches():
            line = {oid for oid, _ in repo.line(branch)}
            assert line == {oid for oid in found.entries if found.has(branch, oid)}
        assert sum(each.commits for each in found.summaries()) == len(found.entries)
