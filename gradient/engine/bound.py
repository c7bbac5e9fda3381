"""A training run bound to a repo: what it consists of, where it stands, and how it is let go."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

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
from gradient.view import html
from gradient.view.updates import ViewUpdater

if TYPE_CHECKING:
    from gradient.engine.attach_request import Request
    from gradient.engine.epochs import Epochs
    from gradient.repo.branch_writer import BranchWriter
    from gradient.repo.repository import Repository
    from gradient.state.live_objects import LiveObjects
    from gradient.state.loader import ResumableLoader


class BoundRun:
    """The parts of one engine, and the end of it. `committing` and `moving` say what it can do."""

    def __init__(
        self,
        repo: Repository,
        line: BranchWriter,
        run: LiveObjects,
        asked: Request,
        hparams: Mapping[str, Any] | None,
    ) -> None:
        self._repo = repo
        self._run = run
        self._asked = asked
        self._at = Position(line)
        self._recorder = CommitWriter(
            repo,
            asked.mode,
            hparams,
            capture_environment(),
            asked.reason,
            DeltaPolicy(repo, asked.mode, asked.config.reanchor_interval),
        )
        self._view = ViewUpdater(repo, asked.config.view)
        self._preemption = preemption = Preemption()
        self._room = DiskFullPolicy(
            asked.config.on_full,
            repo.path,
            self._view,
            hurried=lambda: preemption.ending,
        )
        self._upkeep = AutoMaintenance(repo, asked.config.keep, asked.config.maintenance)
        self._baseline = overrides.baseline(run.optimizer, run.scheduler)
        self._generators = RngRewind(run.optimizer)
        self._guard = NanCheck(asked.config.on_nonfinite)
        self._every = asked.handoff.autocommit
        self._is_committing = False
        self._logged: dict[str, int | float] = {}
        self._loaders: list[ResumableLoader] = []
        self._epochs: Epochs | None = None
        self._background: Background | None = None
        if asked.background:
            self._background = Background(Snapshots(repo.store), asked.config.max_pending)
        self._at.behind = self._background
        self._pid = os.getpid()
        self._closed = False
        self._finish = weakref.finalize(
            self,
            _finish,
            self._pid,
            self._generators,
            self._preemption,
            self._view,
            self._upkeep,
            self._background,
        )

    # -- Ending ------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish what is unfinished and let go of the model. Again is harmless.

        A wait of more than a second shows a line on standard error, where that is a terminal.
        Raises what a commit in the background failed with; the engine is closed nevertheless.
        """
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        try:
            self._drain_at_end()
        finally:
            registry.forget(self._run.model)
            self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise EngineClosedError("this engine is closed; attach again to go on")
        if self._pid != os.getpid():
            raise EngineClosedError(
                "this engine belongs to another process; attach in the child to commit from it"
            )

    def _drain(self, timeout: float | None = None) -> None:
        if self._background is not None:
            self._background.flush(timeout)
            self._tell()

    def _drain_at_end(self, *, preempted: bool = False) -> None:
        """Drain, which a terminal shows if it takes long."""
        if self._background is not None:
            self._background.finish()
            self._tell(quietly=preempted)

    def _tell(self, *, quietly: bool = False) -> None:
        """Say what happened in the background since the last call: warn, and raise failures."""
        if self._background is not None:
            self._background.tell(self._at, quietly=quietly)

    # -- Facts -------------------------------------------------------------------------------

    @property
    def current_step(self) -> int:
        """0 on a fresh run, the restored step after a resume, then the last commit's.

        Reading it before the loop runs puts a resumed run's generators back. A loop that reads it
        itself before its first backward pass has to be announced by `start`.
        """
        self._generators.glance()
        return self._at.step

    @property
    def workspace_path(self) -> str:
        """The workspace's folder."""
        return str(PurePath(self._repo.path).parent)

    @property
    def repo_path(self) -> str:
        """The repo's folder."""
        return self._repo.path

    @property
    def repo_name(self) -> str:
        """The repo's name."""
        return PurePath(self._repo.path).name

    @property
    def branch(self) -> str:
        """The branch that the next commit goes to."""
        return self._at.line.branch

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.branch}@{self._at.step}"
        return f"<GradientEngine {self.repo_name} {state}>"

    def _repr_html_(self) -> str:
        # Not `current_step`: that a notebook shows the engine is no read of it.
        facts = {
            "branch": self.branch,
            "step": self._at.step,
            "repo": self.repo_path,
            "registered": ", ".join(self._run.registered),
            "state": "closed" if self._closed else "attached",
        }
        return html.card(f"GradientEngine {self.repo_name}", facts)


def _finish(
    pid: int,
    generators: RngRewind,
    preemption: Preemption,
    view: ViewUpdater,
    upkeep: AutoMaintenance,
    background: Background | None,
) -> None:
    """End an engine: by `close`, when nobody refers to it any more, or at exit; once."""
    preemption.restore()
    if pid != os.getpid():
        return
    generators.close()
    upkeep.end()
    if background is None:
        view.close()
    else:
        background.end(view.close)
