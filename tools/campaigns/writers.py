"""Many processes that commit to one repo at once, and are killed, stopped and given a wrong clock.

Each process has a history of its own on a branch, which others may share, and logs its acknowledged
commits. At the end, every acknowledged commit must be reachable from a branch and intact, each
history must be linear with steps that never decrease, and `fsck` must report no damage. ``flock``
does nothing, and half of the processes have a clock that is a day off.

    python -m tools.campaigns.writers                           8 writers, 100 commits, one branch
    python -m tools.campaigns.writers --writers 64 --commits 10 --branches 64
    python -m tools.campaigns.writers --collect --minutes 10    with collections without a grace
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import platform
import random
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gradient.maintenance.fsck.check import check
from gradient.maintenance.garbage_collection import collect
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.store.leases import Leases
from gradient.store.refs import Refs
from tools.campaigns import synthetic_repo
from tools.campaigns.oracle import EXPECTED, ViolationError, scratch_folder

_DAY: Final = 86400.0
_POOL: Final = 24
_HUNG: Final = 120.0
"""The seconds without a commit after which a running writer counts as stuck."""
_TELLING: Final = 2.0
"""The seconds that it then has to print its stack."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a run."""

    writers: int = 8
    commits: int = 100
    """The commits of each writer."""
    branches: int = 1
    kills: int = 40
    stops: int = 10
    pause: float = 5.0
    """The seconds for which a writer is stopped."""
    collects: bool = False
    """True if another process collects without a grace, repeatedly."""
    seconds: float = 0.0
    """The least duration; writers that have finished start again."""


@dataclass(slots=True)
class Told:
    """The results of a run."""

    acknowledged: int = 0
    branches: int = 0
    killed: int = 0
    stopped: int = 0
    removed: int = 0
    """The number of packs that collections removed permanently."""
    seconds: float = 0.0


@dataclass(slots=True)
class _Writer:
    """A writer: one process, or its successors after kills."""

    number: int
    journal: Path
    pid: int = 0
    branch: str = ""
    """The branch on which it continues, as logged by itself."""
    target: int = 0
    """The number of commits that end it."""
    paused_until: float = 0.0
    seen: tuple[int, float] = field(default=(0, 0.0))
    """The length of its journal, and the time when that was seen."""

    def acknowledged(self) -> list[str]:
        """Return its acknowledged commits."""
        if not self.journal.exists():
            return []
        return [line for line in self.journal.read_text().splitlines() if len(line) == 64]

    def length(self) -> int:
        """Return the length of its journal, which is cheaper than reading it."""
        return self.journal.stat().st_size if self.journal.exists() else 0

    def whereabouts(self) -> str:
        """Let it print its stack and its resource usage."""
        place = self.journal.with_suffix(".stack")
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(_TELLING)
        used = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        said = place.read_text() if place.exists() else "it did not say where it is"
        return f"after {sum(map(int, used))} ticks of the processor:\n{said}"


def run(folder: Path, plan: Plan, seed: int = 0) -> Told:
    """Run the writers; raises ViolationError for a loss or a stuck writer."""
    repo = synthetic_repo.make(folder / "run")
    crowd = _Crowd(folder, plan, seed)
    begun = time.monotonic()
    try:
        crowd.write()
    finally:
        crowd.end()
    told = crowd.told
    told.seconds = time.monotonic() - begun
    if plan.collects:
        collect(Repository.open(repo.path, workers=1), grace=0.0)
    told.acknowledged, told.branches = judge(
        folder / "run", [oid for writer in crowd.writers for oid in writer.acknowledged()]
    )
    return told


class _Crowd:
    """All processes of one run."""

    def __init__(self, folder: Path, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.told = Told()
        self.writers = [_Writer(n, folder / f"journal{n}") for n in range(plan.writers)]
        self._repo = folder / "run"
        self._stop = folder / "stop"
        self._collector = 0
        self._chance = random.Random(seed)

    def end(self) -> None:
        """Kill all processes."""
        for pid in [self._collector, *(writer.pid for writer in self.writers)]:
            if pid:
                with suppress(ChildProcessError, ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def write(self) -> None:
        """Run until every writer has made its commits and every disturbance has happened."""
        plan, chance = self.plan, self._chance
        deadline = time.monotonic() + plan.seconds
        self._collector = _fork(self._collect) if plan.collects else 0
        running = {writer.number: writer for writer in self.writers}
        for writer in self.writers:
            self._begin(writer)
        while running:
            time.sleep(0.002)
            for writer in list(running.values()):
                if self._has_ended(writer):
                    del running[writer.number]
                    writer.pid = 0
                    if time.monotonic() < deadline:
                        writer.branch = writer.journal.read_text().splitlines()[-1].split()[1]
                        running[writer.number] = writer
                        self._begin(writer)
            awake = [w for w in running.values() if w.paused_until < time.monotonic()]
            if awake and self.told.killed < plan.kills and chance.random() < 0.02:
                victim = chance.choice(awake)
                os.kill(victim.pid, signal.SIGKILL)
            elif awake and self.told.stopped < plan.stops and chance.random() < 0.01:
                victim = chance.choice(awake)
                os.kill(victim.pid, signal.SIGSTOP)
                victim.paused_until = time.monotonic() + plan.pause
                self.told.stopped += 1
            for writer in running.values():
                self._wake(writer)
        self._stop.touch()
        if self._collector:
            collector, self._collector = self._collector, 0
            if os.waitpid(collector, 0)[1]:
                raise ViolationError("a collection failed")
            self.told.removed = int(self._stop.read_text())

    def _begin(self, writer: _Writer) -> None:
        writer.target += self.plan.commits
        self._start(writer)

    def _start(self, writer: _Writer) -> None:
        left = writer.target - len(writer.acknowledged())
        writer.pid = _fork(lambda: self._commit(writer, left))
        writer.seen = writer.length(), time.monotonic()

    def _has_ended(self, writer: _Writer) -> bool:
        """Return whether a writer has made its commits; restart it if it was killed."""
        pid, status = os.waitpid(writer.pid, os.WNOHANG)
        if not pid:
            length = writer.length()
            before, since = writer.seen
            if length != before or writer.paused_until > time.monotonic() - 1:
                writer.seen = length, time.monotonic()
            elif time.monotonic() - since > _HUNG:
                raise ViolationError(f"writer {writer.number} is stuck {writer.whereabouts()}")
            return False
        if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
            self.told.killed += 1
            self._start(writer)
            return False
        if status:
            raise ViolationError(f"writer {writer.number}: {writer.journal.read_text()[-2000:]}")
        return True

    def _wake(self, writer: _Writer) -> None:
        if writer.paused_until and writer.paused_until < time.monotonic():
            os.kill(writer.pid, signal.SIGCONT)
            writer.paused_until = 0.0

    def _commit(self, writer: _Writer, count: int) -> None:
        """Make this many commits and log each one when it is acknowledged."""
        repo = _open(self._repo, skew=(0.0, _DAY, 0.0, -_DAY)[writer.number % 4])
        chance = random.Random(f"{writer.number} {time.time_ns()}")
        with (
            writer.journal.open("a", encoding="ascii") as journal,
            writer.journal.with_suffix(".stack").open("w", encoding="utf-8") as stack,
        ):
            faulthandler.register(signal.SIGUSR1, file=stack)
            try:
                branch = writer.branch or f"b{writer.number % self.plan.branches}"
                line = BranchWriter.open(repo, branch)
                line.moved_to(repo.tip(branch))
                for _ in range(count):
                    step = line.last_step() + 1
                    numbers = [8 * chance.randrange(_POOL) + chance.randrange(8) for _ in range(2)]
                    journal.write(
                        f"{synthetic_repo.commit(line, step, *numbers, lean=step % 3 == 0)}\n"
                    )
                    journal.flush()
                journal.write(f"on {line.branch}\n")
            except BaseException:
                journal.write(traceback.format_exc())
                raise

    def _collect(self) -> None:
        """Collect until the stop file exists."""
        repo = _open(self._repo)
        removed = 0
        while not self._stop.exists():
            removed += collect(repo, grace=0.0, wait=5.0).removed
        self._stop.write_text(str(removed))


def _open(path: Path, skew: float = 0.0) -> Repository:
    """Open a repo with another clock and a ``flock`` that does nothing."""
    fs.try_lock = lambda file: True

    def spelled() -> str:
        now = datetime.fromtimestamp(time.time() + skew, UTC)
        return now.strftime("%Y-%m-%dT%H:%M:%S.%f")

    repo = Repository.open(path, workers=1)
    repo.refs = Refs(repo.storage, clock=spelled)
    repo.leases = Leases(repo.storage, clock=lambda: time.time() + skew)
    return repo


def _fork(work: object) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        assert callable(work)
        work()
    except BaseException:  # noqa: BLE001 - the exit status tells it
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def judge(path: Path, acknowledged: list[str]) -> tuple[int, int]:
    """Raise ViolationError for a loss; return the numbers of commits and branches."""
    repo = Repository.open(path, workers=1)
    reached: set[str] = set()
    lines = synthetic_repo.read_everything(path)
    for branch, steps in lines.items():
        if steps != sorted(steps):
            raise ViolationError(f"the steps of {branch} go down: {steps}")
        for oid, commit in repo.line(branch):
            reached.add(str(oid))
            if len(commit.parents) > 1:
                raise ViolationError(f"{branch} is not linear at {oid}")
    if lost := set(acknowledged) - reached:
        raise ViolationError(f"{len(lost)} of {len(acknowledged)} acknowledged commits are lost")
    wrong = [each for each in check(path, workers=1).findings if each.id not in EXPECTED]
    if wrong:
        raise ViolationError(f"fsck finds {wrong[:5]}")
    return len(set(acknowledged)), len(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print the results; raises ViolationError."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.writers")
    parser.add_argument("--writers", type=int, default=8, help="processes (default 8)")
    parser.add_argument("--commits", type=int, default=100, help="of each (default 100)")
    parser.add_argument("--branches", type=int, default=1, help="that they share (default 1)")
    parser.add_argument("--kills", type=int, default=40, help="SIGKILLs (default 40)")
    parser.add_argument("--stops", type=int, default=10, help="SIGSTOPs (default 10)")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds of each (default 5)")
    parser.add_argument("--collect", action="store_true", help="collect meanwhile, grace 0")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin anew for so long")
    parser.add_argument("--seed", type=int, default=0, help="who is hit when (default 0)")
    parser.add_argument("--folder", default=scratch_folder(), help="where the repo lies")
    options = parser.parse_args(arguments)
    plan = Plan(
        options.writers,
        options.commits,
        options.branches,
        options.kills,
        options.stops,
        options.pause,
        options.collect,
        60 * options.minutes,
    )
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        told = run(Path(scratch), plan, options.seed)
    print(
        f"{told.acknowledged:,} commits by {plan.writers} writers on {told.branches} lines, "
        f"{told.killed} kills, {told.stopped} stops of {plan.pause:g} s, {told.removed:,} packs "
        f"collected, in {told.seconds:.0f} s; nothing lost or stuck; Python "
        f"{platform.python_version()}"
    )
    return 0


if __name__ == "__main__":
    logging.getLogger("gradient").setLevel(logging.CRITICAL)  # what it warns of is asked for here
    sys.exit(main())
