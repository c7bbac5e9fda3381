"""Keep every test away from the machine's settings, and from the other tests' leftovers."""

from __future__ import annotations

import os
import random
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Before anything imports torch: results must not depend on how many cores there are.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

settings.register_profile(
    "hermetic",
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("hermetic")

PERSONAL = ("GRADIENT_", "XDG_", "GIT_", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
"""Variables, by their first letters, that a person's shell may set and no test may see."""

SEED = 20260210


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--times",
        type=int,
        default=1,
        help="repeat so many times as often what is tried by chance",
    )


@pytest.fixture(scope="session")
def times(request: pytest.FixtureRequest) -> int:
    """How many times as often as in CI something is to be tried by chance."""
    found: int = request.config.getoption("--times")
    return found


@pytest.fixture(autouse=True)
def hermetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test an empty home, an empty current folder, no settings and fixed generators."""
    for name in list(os.environ):
        if name.startswith(PERSONAL):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    here = tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    random.seed(SEED)
    np.random.seed(SEED)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(SEED)
    yield
    if left := [path.name for path in home.iterdir()]:
        pytest.fail(f"the test wrote into the home folder: {left}")


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Start functions in new processes that need not import torch first."""
    server = ForkServer(tmp_path_factory.mktemp("children"))
    yield server
    server.close()
