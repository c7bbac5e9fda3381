"""The training loop's face: bind a run to a repo, commit it, put it back, fork it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from gradient.engine import attach_request, ranks, registry
from gradient.engine.epochs import Epochs
from gradient.engine.hparams import check_hparams
from gradient.engine.moving import MovingRun
from gradient.engine.position import Position
from gradient.engine.shutdown import crash_hint
from gradient.engine.warning import warn
from gradient.repo import last_run
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.damage import naming_commits
from gradient.state.live_objects import LiveObjects, check_objects
from gradient.state.loader import ResumableLoader, loader_name

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

    from gradient.repo.config import GradientConfig


class GradientEngine(MovingRun):
    """A training run bound to one branch of one repo.

    Made by `attach`; used by one thread of one process. Every method raises EngineClosedError
    after `close()` and in a forked child.
    """

    @classmethod
    def attach(
        cls,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        *,
        workspace: str | os.PathLike[str] | None = None,
        repo: str | None = None,
        config: GradientConfig | None = None,
        resume: str | None = None,
        hparams: Mapping[str, Any] | None = None,
    ) -> Self:
        """Bind a model, its optimizer and its scheduler to a repo.

        `workspace` and `repo` (or a config with both) create what is missing; `repo` alone does
        so inside the workspace around the current directory; with neither, the repo is looked for
        upwards, then in the only workspace of a direct subfolder. `scheduler` is anything with
        `state_dict` and `load_state_dict`. `resume` is a revision, ``"latest"``, or ``"auto"``:
        the latest if there is one. `hparams` is a flat dict, recorded in each commit.

        The environment overrides: GRADIENT_WORKSPACE, GRADIENT_REPO, GRADIENT_BRANCH,
        GRADIENT_RESUME_REF, GRADIENT_AUTOCOMMIT; GRADIENT_SAFE_DIRECTORY names repos of other
        users that may be written to. Attaching a model again closes its first engine and goes on
        from its line.

        Raises ContextError where no repo can be resolved, OwnershipError for another user's repo
        that is not trusted, ForeignRepoError for one of another program, ConfigError for bad
        settings, UnsupportedValueError for a sharded model, and what `resume` raises.
        """
        check_objects(model, optimizer, scheduler)
        ranks.refuse_sharded(model)
        hparams = None if hparams is None else check_hparams(hparams)
        asked = attach_request.request(workspace=workspace, repo=repo, config=config, resume=resume)
        before = registry.detach(model)
        opened = attach_request.open_repository(asked)
        line = BranchWriter.open(opened, opened.active_branch(asked.branch))
        crash_hint.remember(line)
        engine = cls(opened, line, LiveObjects(model, optimizer, scheduler), asked, hparams)
        try:
            engine._begin(before)
        except BaseException:
            engine.close()
            raise
        crash_hint.remember(engine._at.line)
        registry.remember(model, engine, engine._at)
        return engine

    def _begin(self, before: Position | None) -> None:
        """Resume or fork as asked; else go on, or warn that the branch has history."""
        asked, line = self._asked, self._at.line
        handoff = asked.handoff
        handoff.consume()
        attach_request.tell_outside(self._run)
        begun = None if handoff.id is None else last_run.branch_moved_by(self._repo, asked.reason)
        if begun is not None:
            # An earlier process of this launch has committed already: a restart goes on from there.
            self._at.line = BranchWriter.open(self._repo, begun)
            self.resume_latest()
        elif handoff.fork is not None and asked.resume is not None:
            with naming_commits(self._repo):
                self._fork(asked.resume, self._new_line(line.branch), handoff.fork)
        elif asked.resume == "auto":
            self.resume_latest(missing_ok=True)
        elif asked.resume is not None:
            self.resume(asked.resume, reset_optimizer=handoff.reset_optimizer)
        elif before is not None and before.goes_on(line):
            self._at = before
            before.behind = self._background
        elif line.seen is not None:
            warn(
                f"branch {line.branch!r} has history and this run starts afresh beside it: its "
                f"first commit sets the old line aside. To go on with it, attach with "
                f'resume="auto" (or run: gradient resume latest -- …); to keep both, name another '
                f"branch: GradientConfig(branch=…) or GRADIENT_BRANCH"
            )

    # -- The loop ----------------------------------------------------------------------------

    def start(self) -> None:
        """Say that the training loop starts: a resumed run's generators are put back once more.

        Reads of `current_step` after that put nothing back. `steps` and `epochs` say it themselves.
        """
        self._check_usable()
        self._generators.begin()

    def steps(self, stop: int) -> Iterator[int]:
        """Yield the steps still to run: from the one after `current_step` to `stop` inclusive.

        Where the loop goes back (`rollback`, `resume`, `fork`), it goes on from there.
        """
        self._check_usable()
        restored, step = self._at.restored, self._at.step
        self._generators.begin()
        while step < stop:
            step += 1
            yield step
            self._look_for_commits(step)
            if self._at.restored is not restored:
                restored, step = self._at.restored, self._at.step
                self._generators.begin()
            if not self._closed:
                self._end_of(step)

    def loader(self, dataloader: DataLoader[Any]) -> ResumableLoader:
        """Wrap a DataLoader so that a resumed run goes on in mid-epoch, without re-reading data."""
        self._check_usable()
        loader = ResumableLoader(dataloader)
        loader.protect_workers(self._preemption.handled)
        number = len(self._loaders)
        self._loaders.append(loader)
        self.register_state(loader_name(number), loader, required=False)
        return loader

    def epochs(self, start: int, stop: int | None = None) -> Iterator[int]:
        """Yield the epochs still to run, beginning inside the one that the commit was made in.

        As for `range`, ``epochs(5)`` is ``epochs(0, 5)``.
        """
        self._check_usable()
        first, end = (0, start) if stop is None else (start, stop)
        if self._epochs is None:
            self._epochs = Epochs(self._loaders)
            self.register_state("epochs", self._epochs, required=False)
        self._generators.glance()
        return self._iterate(self._epochs.iterate(first, end))

    def _iterate(self, epochs: Iterator[int]) -> Iterator[int]:
        self._generators.begin()
        yield from epochs

    def handle_preemption(self, *signals: int) -> None:
        """Let a signal (by default SIGTERM) end the run after the step that it is in.

        The handler notes the signal and calls the one that was there before. When the step is over
        (the loop comes back to `steps`, or calls `maybe_commit` or `commit`), the run is committed
        and SystemExit(75) is raised, which asks a scheduler to start the job again. Of several
        ranks, each of which calls this, all end after the same step.

        `close` puts the former handlers back. Raises ConfigError outside of the main thread.
        """
        self._check_usable()
        self._preemption.install(signals)
        for loader in self._loaders:
            loader.protect_workers(self._preemption.handled)

    @property
    def preempted(self) -> bool:
        """Whether a signal of `handle_preemption` has come; the run ends after this step."""
        return self._preemption.asked is not None
