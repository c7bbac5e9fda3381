"""Automatic maintenance of the repo while a run trains, in a separate process.

Rules
1. A round starts after an acknowledged commit, every so many commits. Each engine runs one round
   at a time. The lock of garbage collection keeps several engines and machines apart.
2. The work is done by `maintenance_worker`, in a child process at the lowest priority. It does not
   hold this interpreter's lock, and it does not import torch.
3. The child does not outlive the engine: it ends when its standard input ends, even if the engine's
   process is killed. Like a garbage collection, it may be cut off anywhere; the next round does
   the rest.
4. Failures are logged, and have no other effect.
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
from gradient.repo.retention.rules import Keep
from gradient.store import pack as packs

_LOG = logging.getLogger("gradient")

EVERY: Final = 256
"""The default number of commits between two rounds."""
EVERY_KEPT: Final = 16
"""The same with retention rules."""

_PATIENCE: Final = 5.0
"""Seconds between terminating and killing a child."""

_CHILD: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from gradient.engine.maintenance_worker import main; main(sys.argv[2], sys.argv[3])"
)


class AutoMaintenance:
    """Starts rounds for one engine. One thread at a time calls `committed`."""

    def __init__(self, repo: Repository, keep: Keep | None, every: int | None) -> None:
        self._repo = repo.path
        self._keep = keep
        default = EVERY if keep is None else EVERY_KEPT
        self._every = default if every is None else every
        # The first commit of this run starts a round if earlier runs left enough packs.
        self._due = len(repo.storage.names(packs.FOLDER)) if self._every else 0
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._running = False
        self._ended = False

    def committed(self) -> None:
        """Count an acknowledged commit, and start a round if one is due."""
        self._due += 1
        if not self._every or self._due < self._every:
            return
        with self._lock:
            if self._running or self._ended or exit_hook.has_begun():
                return
            self._running = True
        self._due = 0
        try:
            # In a thread, because even starting a process takes some milliseconds.
            threading.Thread(target=self._round, name="gradient-maintenance", daemon=True).start()
        except RuntimeError as error:  # the interpreter is near its end
            self._running = False
            _LOG.debug("no maintenance: %s", error)

    def end(self) -> None:
        """Stop the running round, and start no other one. Idempotent."""
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
            _LOG.warning("maintenance of the repo failed: %s", error)
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
            _LOG.info("maintained the repo: %s", last)
        elif not self._ended:
            _LOG.warning(
                "maintenance of the repo failed: %s. No commit is affected; "
                "to repeat it: gradient gc",
                last,
            )
