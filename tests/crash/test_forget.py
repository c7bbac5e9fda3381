"""`forget` that is killed, or stopped by a disk error or a power cut at any moment.

Kept commits can be read, and the next `forget` finishes the work.
"""

from __future__ import annotations

import errno
import itertools
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradient.errors import GradientIOError
from gradient.maintenance.fsck.check import check
from gradient.maintenance.retention.forget import forget
from gradient.repo.reachability import Marker
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from tests.fork_server import ForkServer
from tests.repo.making import make_repo
from tests.storage.faults import Fault, observed
from tools.campaigns.oracle import Client, Refs
from tools.campaigns.power import Campaign, Disk
from tools.campaigns.scenario import Scenario
from tools.campaigns.synthetic_repo import commit, go_on

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 6
STATES = 50
KEEP = Keep(last=2, every=4)
DROP = Keep(last=1, drop="model")


def build(path: Path) -> Repository:
    """Six commits; some that stay depend on forgotten ones, and share chunks with them."""
    repo = make_repo(path)
    line = go_on(repo, "main")
    for step in range(1, 7):
        commit(line, step, step - 1, 80, 160 + 8 * step, lean=step > 1)
    return repo


def steps_kept(path: Path) -> list[int]:
    """Read everything that is kept, and return the steps of the complete commits."""
    repo = Repository.open(path, workers=1)
    table, dropped, whole = repo.retention.table(strict=True), repo.dropped(), []
    for oid, found in repo.line("main"):
        marker = Marker(repo.store)
        marker.dropped = table
        if oid in dropped:
            continue
        marker.mark([oid])
        for each in marker.marked:
            places = repo.store.catalogue.find(each)
            assert places, f"{each} of step {found.step}"
            repo.store.read(each, places[0][1].kind)
        whole.append(found.step)
    return whole[::-1]


@pytest.mark.parametrize("keep", [KEEP, DROP], ids=["whole", "a component"])
@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
def test_any_call_may_fail(tmp_path: Path, keep: Keep, name: str) -> None:
    build(tmp_path / "origin")
    expected = [4, 5, 6] if keep is KEEP else [6]
    # A sample; with a stride of 1, all were tried.
    for after in itertools.count(len(name) - 3, 17):
        path = tmp_path / "copy"
        shutil.copytree(tmp_path / "origin", path)
        fault = Fault(after, int(getattr(errno, name)), persistent=True)
        with observed(fault), suppress(GradientIOError):
            forget(Repository.open(path, workers=1), keep, grace=0.0, wait=0.0)
        assert set(steps_kept(path)) >= set(expected), after
        forget(Repository.open(path, workers=1), keep, grace=0.0)
        assert steps_kept(path) == expected, after
        assert check(path, workers=1).is_sound
        shutil.rmtree(path)
        if not fault.hits:
            break


def test_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    def forget_four(client: Client) -> None:
        with client.attempt(client.refs):
            forget(client.open(), KEEP, grace=0.0)

    def make(folder: Path) -> tuple[Path, Refs]:
        build(folder / "run")
        return folder / "run", {"heads/main": [*range(1, 7)]}

    scenario = Scenario({"forget": forget_four}, make, lambda *_: True)
    campaign = Campaign(tmp_path, scenario)
    disk = Disk(tmp_path / "cut")
    states = list(campaign.crash_states(campaign.record("forget")))
    for said, state in [*random.Random(7).sample(states, STATES), states[-1]]:
        disk.show(state)
        kept = steps_kept(disk.folder / "run")
        done = bool(said) and said[-1].startswith('["done"')
        assert kept == [4, 5, 6] if done else set(kept) >= {4, 5, 6}


def write_on(path: str, first: int) -> None:
    """Commit in an endless loop."""
    repo = Repository.open(path, workers=1)
    line = go_on(repo, "main")
    for step in range(first, first + 200):
        commit(line, step, step % 24, step, lean=step % 3 > 0)


def forget_on(path: str) -> None:
    """Forget and collect in an endless loop."""
    repo = Repository.open(path, workers=1)
    while True:
        forget(repo, KEEP, grace=0.0, wait=1.0)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ForkServer]]:
    """One server for each of the two concurrent processes."""
    found = []
    for number in range(2):
        folder = tmp_path_factory.mktemp(f"server{number}")
        found.append(ForkServer(folder, preload=("tests.crash.test_forget",)))
    yield found
    for server in found:
        server.close()


def test_killed_beside_a_writer(servers: list[ForkServer], tmp_path: Path) -> None:
    moments = random.Random(11)
    path = tmp_path / "run"
    build(path)
    for number in range(KILLS):
        writer = servers[0].start(write_on, str(path), 1000 * (number + 1))
        child = servers[1].start(forget_on, str(path))
        time.sleep(moments.uniform(0.02, 0.3))
        for process in (child, writer) if number % 2 else (writer, child):
            process.kill()
            assert process.wait() == -signal.SIGKILL, process.output()
        kept = steps_kept(path)
        found = [each.step for _, each in Repository.open(path).line("main")]
        assert kept[-2:] == found[:2][::-1]
        assert set(kept) >= {step for step in found if step % 4 == 0}
    forget(Repository.open(path, workers=1), KEEP, grace=0.0)
    assert check(path, workers=1).is_sound
