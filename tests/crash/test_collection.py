"""Collections and concurrent writers, both killed at any moment."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradient.maintenance.garbage_collection import collect
from gradient.repo.repository import Repository
from tests.fork_server import ForkServer
from tests.repo.making import make_repo
from tools.campaigns.synthetic_repo import commit, delete, go_on, read_everything

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 30
POOL = 24
"""The number of different chunks: branches reuse chunks that others have dropped."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ForkServer]]:
    """One server for each of the concurrent processes."""
    modules = ("gradient.maintenance.garbage_collection", "tests.crash.test_collection")
    folder = tmp_path_factory.mktemp("lives")
    found = []
    for number in range(2):
        (folder / str(number)).mkdir()
        found.append(ForkServer(folder / str(number), preload=modules))
    yield found
    for server in found:
        server.close()


def write(path: str, me: int, commits: int) -> None:
    """Commit chunks of the pool to branches that are deleted again, and to one that stays."""
    repo = Repository.open(path, workers=1)
    draw = random.Random(me)
    for step in range(commits):
        numbers = [8 * draw.randrange(POOL) for _ in range(3)]
        commit(go_on(repo, f"kept{me}"), step, *numbers, lean=step % 3 == 1)
        given = f"given{me}"
        commit(go_on(repo, given), step, *(8 * draw.randrange(POOL) for _ in range(3)))
        if step % 2:
            delete(repo, given)


def collect_until(path: str, stop: str) -> None:
    """Collect without a grace period, again and again."""
    repo = Repository.open(path, workers=1)
    removed = 0
    while not Path(stop).exists():
        removed += collect(repo, grace=0.0, wait=5.0).removed
    Path(stop).write_text(str(removed), encoding="ascii")


def test_killed_collections_and_writers(servers: list[ForkServer], tmp_path: Path) -> None:
    moments = random.Random(5)
    repo = make_repo(tmp_path / "run")
    path, stop = str(tmp_path / "run"), tmp_path / "stop"
    expected: list[int] = []
    for client in range(KILLS):
        line = go_on(repo, "main")
        commit(line, client, 8 * moments.randrange(POOL), 8 * client)
        expected.append(client)
        commit(go_on(repo, f"given{client}"), client, *range(8 * client, 8 * client + 80, 8))
        delete(repo, f"given{client}")
        writer = servers[1].start(write, path, client + 100, 50) if client % 3 == 0 else None
        child = servers[0].start(collect_until, path, str(stop))
        time.sleep(moments.uniform(0.005, 0.15))
        child.kill()
        assert child.wait() == -signal.SIGKILL, child.output()
        if writer is not None:
            writer.kill()
            assert writer.wait() in (0, -signal.SIGKILL), writer.output()
        assert read_everything(path)["main"] == expected
    found = read_everything(path)
    done = collect(Repository.open(path), grace=0.0)
    assert done.waiting == 0
    assert (done.in_trash, Repository.open(path).storage.names("gc")) == (0, [])
    assert read_everything(path) == found
