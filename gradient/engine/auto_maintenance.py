"""Looking after the repo while a run trains: in a process of its own, never in the run's time.

Rules
1. It begins after a commit was acknowledged, every so many commits; one at a time for each engine.
   (Several engines, also of other machines, keep out of each other's way by the collector's claim.)
2. What it does is in `caretaker`, in a child process at the lowest priority: nothing of it holds
   the interpreter's lock, and it imports no torch.
3. The child lives no longer than the engine: it ends when its standard input does, so also with a
   process that is killed. It may be cut off anywhere, as a collection may; what is left is
   done the next time.
4. Whatever goes wrong is logged and goes no further.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import PurePath
from typing import Final

from gradient.engine import maintenance_worker
from gradient.engine.shutdown import exit_hook
from gradient.repo.repository import Repository
from gradient.repo.retention_rules import Keep
from gradient.store import pack as packs

_LOG = logging.getLogger("gradient")

EVERY: Final = 256
"""Commits between two rounds, where nothing else was asked for."""
EVERY_KEPT: Final = 16
"""The same where rules say what is to be kept."""

_PATIENCE: Final = 5.0
"""Seconds that a child has to end when it is told to, before it is killed."""

_CHILD: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from gradient.engine.maintenance_worker import main; main(sys.argv[2], sys.argv[3])"
)


class AutoMaintenance:
    """Starts rounds for one engine. `committed` may be called by any one thread at a time."""

    def __init__(self, repo: Repository, keep: Keep | None, every: int | None) -> None:
        self._repo = repo.path
        self._keep = keep
        default = EVERY if keep is None else EVERY_KEPT
        self._every = default if every is None else every
        # What earlier runs left is looked after with this one's first commit.
        self._due = len(repo.storage.names(packs.FOLDER)) if self._every else 0
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._running = False
        self._ended = False

    def committed(self) -> None:
        """Count a commit that was acknowledged; begin a round where it is time."""
        self._due += 1
        if not self._every or self._due < self._every:
            return
        with self._lock:
            if self._running or self._ended or exit_hook.has_begun():
                return
            self._running = True
        self._due = 0
        try:
            # A thread, for even to start a process takes some milliseconds.
            threading.Thread(target=self._round, name="gradient-upkeep", daemon=True).start()
        except RuntimeError as error:  # the interpreter is near its end
            self._running = False
            _LOG.debug("no upkeep: %s", error)

    def end(self) -> None:
        """End what runs, promptly; nothing is begun any more. Again is harmless."""
        with self._lock:
            self._ended = True
            child = self._child
        if child is not None:
            child.terminate()
            try:
                child.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()

    def _round(self) -> None:
        try:
            self._run()
        except (OSError, ValueError) as error:
            _LOG.warning("the repo was not looked after: %s", error)
        finally:
            with self._lock:
                self._child, self._running = None, False

    def _run(self) -> None:
        package = str(PurePath(maintenance_worker.__file__).parents[2])
        asked = json.dumps(None if self._keep is None else asdict(self._keep))
        with self._lock:
            if self._ended:
                return
            self._child = child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, package, self._repo, asked],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        with child:  # standard input stays open until it has ended
            assert child.stdout is not None
            said = child.stdout.read().decode("utf-8", "replace").splitlines()
            code = child.wait()
        last = said[-1] if said else f"exit status {code}"
        if code == 0:
            _LOG.info("looked after the repo: %s", last)
        elif not self._ended:
            _LOG.warning(
                "the repo was not looked after, which loses nothing: %s; to do it: gradient gc",
                last,
            )
