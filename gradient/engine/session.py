"""The parts of one attached run, shared by everything that an engine does, and their end."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gradient.checkpoint.snapshots import Snapshots
from gradient.engine import registry
from gradient.engine.auto_maintenance import AutoMaintenance
from gradient.engine.commit.background import Background
from gradient.engine.commit.commit_writer import CommitWriter
from gradient.engine.commit.delta_policy import DeltaPolicy
from gradient.engine.commit.disk_full import DiskFullPolicy
from gradient.engine.commit.nan_check import NanCheck
from gradient.engine.environment import capture_environment
from gradient.engine.position import Position
from gradient.engine.preemption.signals import Preemption
from gradient.engine.rng_rewind import RngRewind
from gradient.errors import EngineClosedError
from gradient.state import overrides
from gradient.view.updates import ViewUpdater

if TYPE_CHECKING:
    from gradient.engine.attach_request import Request
    from gradient.repo.branch_writer import BranchWriter
    from gradient.repo.repository import Repository
    from gradient.state.live_objects import LiveObjects


class Session:
    """One run, attached to one branch of one repo.

    No part refers to the session, so dropping the engine releases the model at once.
    """

    def __init__(
        self,
        repo: Repository,
        branch_writer: BranchWriter,
        objects: LiveObjects,
        request: Request,
        hparams: Mapping[str, Any] | None,
    ) -> None:
        config = request.config
        self.repo = repo
        """The repo that commits go to."""
        self.objects = objects
        """The live objects that a commit captures and a resume restores."""
        self.request = request
        """The settled arguments of `attach`."""
        self.position = Position(branch_writer)
        """The branch, the step and the last commit of the run."""
        self.commit_writer = CommitWriter(
            repo,
            request.mode,
            hparams,
            capture_environment(),
            request.reason,
            DeltaPolicy(repo, request.mode, config.reanchor_interval),
        )
        """Writes commits into the store and publishes them."""
        self.view = ViewUpdater(repo, config.view)
        """Keeps `manifest.json` and the ``ckpt_*.pt`` files up to date."""
        self.preemption = preemption = Preemption()
        """The signals that end the run."""
        self.disk_full = DiskFullPolicy(
            config.on_full,
            repo.path,
            self.view,
            hurried=lambda: preemption.ending,
        )
        """Decides what happens to a commit when the disk is full."""
        self.maintenance = AutoMaintenance(repo, config.keep, config.maintenance)
        """Runs garbage collection and retention while the run trains."""
        self.baseline = overrides.baseline(objects.optimizer, objects.scheduler)
        """The optimizer's options and the schedule at attach, for `reset_scheduler`."""
        self.rng_rewind = RngRewind(objects.optimizer)
        """Restores the generators again when the training loop starts."""
        self.nan_check = NanCheck(config.on_nonfinite)
        """Checks the weights for NaN and infinite values."""
        self.background: Background | None = None
        """Writes commits in the background; None if commits are written in the loop."""
        if request.background:
            self.background = Background(Snapshots(repo.store), config.max_pending)
        self.position.background = self.background
        self.closed = False
        """True once `close` was called."""
        self._pid = os.getpid()
        self._finish = weakref.finalize(
            self,
            _finish,
            self._pid,
            self.rng_rewind,
            self.preemption,
            self.view,
            self.maintenance,
            self.background,
        )

    def check_usable(self) -> None:
        """Raise EngineClosedError if the engine is closed or belongs to another process."""
        if self.closed:
            raise EngineClosedError("this engine is closed; attach again to go on")
        if self._pid != os.getpid():
            raise EngineClosedError(
                "this engine belongs to another process; attach in the child to commit from it"
            )

    def drain(self, timeout: float | None = None) -> None:
        """Wait for the background commits; raise the first failure that was not raised yet."""
        self.check_usable()
        if self.background is not None:
            self.background.flush(timeout)
            self.report_background()

    def drain_at_end(self, *, preempted: bool = False) -> None:
        """Wait for the last background commits and show progress on a terminal.

        A preempted run logs failures instead of raising them.
        """
        if self.background is not None:
            self.background.finish()
            self.report_background(quietly=preempted)

    def report_background(self, *, quietly: bool = False) -> None:
        """Emit the warnings of background commits since the last call, and raise failures."""
        if self.background is not None:
            self.background.report(self.position, quietly=quietly)

    def close(self) -> None:
        """Write what is pending, detach from the model and stop all parts. Idempotent."""
        if self.closed or self._pid != os.getpid():
            return
        self.closed = True
        try:
            self.drain_at_end()
        finally:
            registry.forget(self.objects.model)
            self._finish()


def _finish(
    pid: int,
    rng_rewind: RngRewind,
    preemption: Preemption,
    view: ViewUpdater,
    maintenance: AutoMaintenance,
    background: Background | None,
) -> None:
    """Stop the parts once: in `close`, when the session is garbage collected, or at exit."""
    preemption.restore()
    if pid != os.getpid():
        return
    rng_rewind.close()
    maintenance.end()
    if background is None:
        view.close()
    else:
        background.end(view.close)
