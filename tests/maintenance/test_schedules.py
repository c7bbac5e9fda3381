"""Whatever runs commit, fail, fork and go back to, and whatever is forgotten beside them: the tip
of every ref, the last commits of every line and all that no record names can be read.

Each schedule is drawn from its number; `python -m tests.maintenance.test_schedules FIRST COUNT`
runs as many as one likes.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gradient.errors import ConflictError, ForgottenError, GradientError, GradientIOError
from gradient.maintenance.garbage_collection import collect
from gradient.maintenance.retention.forget import forget
from gradient.objects.oid import Kind, Oid
from gradient.repo import ref_edits
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.fork import fork_commit
from gradient.repo.reachability import Marker
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from gradient.repo.revisions import Resolved
from tests.repo.making import make_repo
from tools.campaigns.synthetic_repo import commit

SCHEDULES = 150
"""So many in CI."""

STEPS = 12
BRANCHES = ("main", "a")


class Schedule:
    """One order of events, and what must hold after each."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.repo = make_repo(folder / "run")
        self.other = Repository.open(self.repo.path, workers=1)
        """Another process that forgets and collects."""
        self.lines = {name: BranchWriter.open(self.repo, name) for name in BRANCHES}
        self.step = 0
        self.last: int | None = None

    def run(self) -> None:
        actions: list[Callable[[], None]] = [
            *(self.commit, self.commit, self.commit, self.commit_beside_forget),
            *(self.fail, self.go_back, self.fork, self.tag, self.delete_tag, self.delete_branch),
            *(self.forget, self.forget, self.collect),
        ]
        self.commit()
        for _ in range(STEPS):
            self.draw.choice(actions)()
            self.check()

    def commit(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Commit, as a run does in the foreground or behind its loop; something may fall between
        the writing and the moving of the branch."""
        self.step += 1
        line = self.lines[self.draw.choice(BRANCHES)]
        numbers = [self.draw.randrange(24), self.draw.randrange(24)]
        if meanwhile is not None:
            append = self.repo.refs.append

            def late(*args: object, **kwargs: object) -> object:
                self.repo.refs.append = append  # type: ignore[method-assign]
                meanwhile()
                return append(*args, **kwargs)  # type: ignore[arg-type]

            self.repo.refs.append = late  # type: ignore[method-assign, assignment]
        commit(line, self.step, *numbers, lean=self.draw.random() < 0.6)

    def commit_beside_forget(self) -> None:
        self.commit(self.forget)

    def fail(self) -> None:
        def refuse() -> None:
            raise GradientIOError("link", "refs", OSError(5, "Input/output error"))

        with pytest.raises(GradientIOError):
            self.commit(refuse)

    def go_back(self) -> None:
        """Resume an earlier commit of a line, if it is there."""
        name = self.draw.choice(BRANCHES)
        chain = [oid for oid, _ in self.repo.line(name)]
        if chain:
            oid = self.draw.choice(chain)
            try:
                self.repo.check_kept(oid)
            except ForgottenError:
                return
            self.lines[name] = BranchWriter.open(self.repo, name).moved_to(oid)

    def fork(self) -> None:
        source = self.any_commit()
        if source is not None:
            name = f"f{self.step}.{self.draw.randrange(10**6)}"
            try:
                self.other.check_kept(source)
                found = Resolved(source, self.other.read_commit(source), None)
                fork_commit(self.other, found, name)
            except ForgottenError:
                pass

    def tag(self) -> None:
        source = self.any_commit()
        if source is not None:
            try:
                ref_edits.create_tag(self.other, "t", source, reason="tag", force=True)
            except ConflictError:
                assert source in self.other.dropped()

    def delete_tag(self) -> None:
        if "t" in self.other.refs.names("tags"):
            ref_edits.delete_tag(self.other, "t")

    def delete_branch(self) -> None:
        names = [name for name in self.other.branches() if name not in BRANCHES]
        if names:
            ref_edits.delete_branch(self.other, self.draw.choice(names))

    def forget(self) -> None:
        self.last = self.draw.choice([0, 1, 1, 2, 3])
        drop = self.draw.choice([(), (), ("model",)])
        keep = Keep(last=self.last, every=self.draw.choice([None, None, 5]), drop=drop)
        before = self.whole()
        expected = {
            oid for branch in self.other.branches() for oid in before(branch)[: self.last or 0]
        }
        forget(self.other, keep, grace=self.draw.choice([0.0, 0.0, 86400.0]), wait=0.0)
        assert not expected & self.other.dropped().keys(), "one of the last ones was let go of"

    def collect(self) -> None:
        collect(self.other, grace=self.draw.choice([0.0, 86400.0]), wait=0.0)

    def whole(self) -> Callable[[str], list[Oid]]:
        dropped = self.other.dropped()
        return lambda branch: [o for o, _ in self.other.line(branch) if o not in dropped]

    def any_commit(self) -> Oid | None:
        found = [oid for name in self.other.branches() for oid, _ in self.other.line(name)]
        return self.draw.choice(found) if found else None

    def check(self) -> None:
        """Read everything that has to be there, as a new process would."""
        repo = Repository.open(self.repo.path, workers=1)
        dropped = repo.dropped()
        for branch, tip in repo.tips().items():
            assert tip not in dropped
            for oid, _ in repo.line(branch):
                if oid not in dropped:
                    marker = Marker(repo.store)
                    marker.dropped = repo.retention.table()
                    marker.mark([oid])
                    assert all(map(repo.store.is_complete, marker.marked))
            (chunk,) = repo.store.find_prefix(Kind.BLOB, "")[:1] or [None]
            assert chunk is None or repo.store.read(chunk, Kind.BLOB)


def run(seed: int) -> None:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        Schedule(folder, seed).run()
    except GradientError as error:
        raise AssertionError(f"schedule {seed}: {error}") from error
    except AssertionError as error:
        raise AssertionError(f"schedule {seed}: {error}") from error
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("first", range(0, SCHEDULES, 25))
@pytest.mark.filterwarnings("ignore")
def test_schedules(first: int) -> None:
    for seed in range(first, first + 25):
        run(seed)


if __name__ == "__main__":
    begin, count = map(int, sys.argv[1:])
    for number in range(begin, begin + count):
        run(number)
    print(f"{count} schedules from {begin} on: nothing was lost")  # noqa: T201
