"""The fork server gives what a new process gives."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fork_server import ForkServer


def show_scene() -> None:
    ours = [name for name in sys.modules if name.split(".")[0] == "gradient"]
    sys.stdout.write(f"{Path.cwd()} {os.environ['COLOUR']} {'torch' in sys.modules}\n{ours}\n")


def fail() -> None:
    raise ValueError("out of cheese")


def sleep() -> None:
    time.sleep(60)


def test_child_has_torch_and_nothing_of_ours(
    fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "green")
    here, ours = fork_server.run(show_scene).splitlines()
    assert here == f"{Path.cwd()} green True"
    assert ours == "[]"


def test_failure_is_reported_with_its_traceback(fork_server: ForkServer) -> None:
    assert "out of cheese" in fork_server.run(fail, status=1)


def test_killed_child_reports_the_signal(fork_server: ForkServer) -> None:
    child = fork_server.start(sleep)
    child.kill()
    assert child.wait() == -signal.SIGKILL
