"""New processes for tests, without the seconds that importing torch takes in each.

A server imports torch and nothing else of weight, and forks a child for every function it is sent.
No child has seen another's state: for a test, each is a process that was just started.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent

PRELUDE = "import {modules}; from tests.fork_server import serve; serve({fd})"

TORCH = ("torch", "torch._dynamo")
"""torch imports `_dynamo` with the first optimizer; it belongs to the seconds to save."""

LIMIT = 120.0
"""Seconds after which a child counts as hung."""


class Child:
    """One running function. `wait` must be called before the server takes the next."""

    def __init__(self, control: Connection, log: Path) -> None:
        self.control = control
        self.log = log
        self.pid: int = control.recv()

    def kill(self) -> None:
        """Send SIGKILL. The id is nobody else's before the server takes its next order."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Return the exit status; minus the signal's number where one ended the child."""
        if not self.control.poll(LIMIT):
            self.kill()
            self.control.recv()
            raise TimeoutError(f"child did not end within {LIMIT:.0f} s\n{self.output()}")
        status: int = self.control.recv()
        return status

    def output(self) -> str:
        """Return what the child wrote to stdout and stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace")


class ForkServer:
    """Starts functions in new processes, one at a time.

    `preload` names modules beside torch that the server imports, where a test needs many children
    and not that each imports them anew.
    """

    def __init__(self, folder: Path, *, preload: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.started = 0
        self.control, theirs = Pipe()
        prelude = PRELUDE.format(modules=", ".join((*TORCH, *preload)), fd=theirs.fileno())
        self.process = subprocess.Popen(
            [sys.executable, "-c", prelude],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def start(self, function: Callable[..., object], *arguments: object) -> Child:
        """Call a module-level function in a new process, in this one's folder and environment."""
        self.started += 1
        log = self.folder / f"child-{self.started}.log"
        log.touch()
        order = (function, arguments, Path.cwd(), dict(os.environ), log)
        self.control.send_bytes(ForkingPickler.dumps(order))
        return Child(self.control, log)

    def run(self, function: Callable[..., object], *arguments: object, status: int = 0) -> str:
        """Call it, wait for it, demand the exit status; return what it printed."""
        child = self.start(function, *arguments)
        found = child.wait()
        assert found == status, f"exit status {found}, not {status}:\n{child.output()}"
        return child.output()

    def close(self) -> None:
        """End the server."""
        self.control.close()
        self.process.wait(LIMIT)


def serve(fd: int) -> None:
    """Fork a child per order until the other side hangs up."""
    control = Connection(fd)
    pid = None
    # What the children share with this process, their collector need not look at.
    gc.freeze()
    while True:
        try:
            order = control.recv_bytes()
        except (EOFError, ConnectionResetError):
            return
        if pid is not None:
            os.waitpid(pid, 0)
        if (pid := os.fork()) == 0:
            control.close()
            obey(order)
        control.send(pid)
        # Seen, and left as it is until the next order: `kill` must never hit another process.
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert end is not None
        control.send(end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)


def obey(order: bytes) -> None:
    """Be the child: set the scene, call the function, and exit as a script does."""
    # Only here is anything of the order imported: the server stays as it started.
    decoded: Any = ForkingPickler.loads(order)
    function, arguments, folder, environment, log = decoded
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    function(*arguments)
    sys.exit(0)
