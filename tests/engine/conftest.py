"""Fixtures of the engine's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator

LIVES = ("gradient.engine.engine", "tests.engine.background_runs", "tests.engine.preempted_run")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Fork from a process that has the engine loaded, and what the children are to do with it."""
    server = ForkServer(tmp_path_factory.mktemp("lives"), preload=LIVES)
    yield server
    server.close()
