"""A run that is killed and resumed in a new process goes on as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parity.drive import Journal, run_alone, run_engine
from tests.parity.workloads import STEPS, WORKLOADS

if TYPE_CHECKING:
    from tests.fork_server import ForkServer

STRIDES = (1, 7, 17)
"""Steps between kills: at every step; across the ends of epochs; most of a run at once."""


@pytest.fixture(scope="module")
def truth(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function from a workload to its uninterrupted run's steps, each run only once."""
    known: dict[str, list[dict[str, Any]]] = {}

    def steps(workload: str) -> list[dict[str, Any]]:
        if workload not in known:
            path = tmp_path_factory.mktemp("truth") / "journal"
            fork_server.run(run_alone, workload, path)
            known[workload] = Journal(path).read("step")
        return known[workload]

    return steps


def kill_and_resume(
    server: ForkServer, workload: str, stride: int, options: dict[str, Any]
) -> Journal:
    """Run a workload to its end through as many lives as it takes."""
    path = Path("journal").absolute()
    deaths = (STEPS - 1) // stride
    for _ in range(deaths):
        server.run(run_engine, workload, path, stride, options, status=-signal.SIGKILL)
    server.run(run_engine, workload, path, stride, options)
    return Journal(path)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_killed_run_equals_uninterrupted(
    workload: str, stride: int, fork_server: ForkServer, truth: Any
) -> None:
    expected = truth(workload)
    journal = kill_and_resume(fork_server, workload, stride, {})
    assert journal.read("step") == expected[1:]
    starts = [entry["step"] for entry in journal.read("resumed")]
    assert starts == list(range(0, STEPS, stride))
    for entry in journal.read("resumed"):
        assert entry["digest"] == expected[entry["step"]]["digest"]
    assert [entry["step"] for entry in journal.read("acknowledged")] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("compression", ["off", "aggressive"])
def test_every_compression_is_exact(compression: str, fork_server: ForkServer, truth: Any) -> None:
    options = {"compression": compression, "view": "off"}
    journal = kill_and_resume(fork_server, "gpt-adamw-cosine", 11, options)
    assert journal.read("step") == truth("gpt-adamw-cosine")[1:]


@pytest.mark.parametrize("workload", ["gpt-adamw-cosine", "conv-sgd-onecycle-loader"])
def test_commits_in_the_background_are_exact(
    workload: str, fork_server: ForkServer, truth: Any
) -> None:
    journal = kill_and_resume(fork_server, workload, 13, {"background": True, "view": "off"})
    assert journal.read("step") == truth(workload)[1:]
