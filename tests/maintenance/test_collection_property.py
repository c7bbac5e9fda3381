"""Whatever happens to branches, in whatever order: what a ref leads to is there."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gradient.maintenance.garbage_collection import collect, undo
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from tests.repo.making import make_repo
from tools.campaigns.synthetic_repo import commit, delete, go_on, read_everything

BRANCHES = st.sampled_from(["main", "a", "b", "c"])
NUMBERS = st.lists(st.integers(0, 40), min_size=1, max_size=6)
DAYS = st.sampled_from([0.0, 0.0, 86400.0, 7 * 86400.0])


class Collecting(RuleBasedStateMachine):
    """Two repositories that were opened at different times, one store, one expectation."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.repos = [make_repo(self.folder / "run")]
        self.repos.append(Repository.open(self.folder / "run", workers=1))
        self.expected: dict[str, list[int]] = {}
        self.now = 2e9
        self.step = 0

    @rule(branch=BRANCHES, numbers=NUMBERS, lean=st.booleans(), who=st.integers(0, 1))
    def commit(self, branch: str, numbers: list[int], lean: bool, who: int) -> None:
        self.step += 1
        commit(go_on(self.repos[who], branch), self.step, *numbers, lean=lean)
        self.expected.setdefault(branch, []).append(self.step)

    @rule(source=BRANCHES, branch=BRANCHES, who=st.integers(0, 1))
    def fork(self, source: str, branch: str, who: int) -> None:
        if source in self.expected and branch not in self.expected:
            repo = self.repos[who]
            self.step += 1
            line = BranchWriter.create(repo, branch).moved_to(repo.tip(source))
            commit(line, self.step, self.step % 40)
            self.expected[branch] = [*self.expected[source], self.step]

    @rule(branch=BRANCHES, who=st.integers(0, 1))
    def delete(self, branch: str, who: int) -> None:
        if branch in self.expected:
            delete(self.repos[who], branch)
            del self.expected[branch]

    @rule(grace=DAYS, days=st.integers(0, 9), who=st.integers(0, 1))
    def collect(self, grace: float, days: int, who: int) -> None:
        self.now += days * 86400.0
        done = collect(self.repos[who], grace=grace, clock=lambda: self.now)
        assert done.waiting == 0
        assert grace or not done.in_trash

    @rule(who=st.integers(0, 1))
    def undo(self, who: int) -> None:
        undo(self.repos[who])

    @invariant()
    def everything_is_there(self) -> None:
        assert read_everything(self.folder / "run") == self.expected

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


Collecting.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
TestCollecting = Collecting.TestCase
