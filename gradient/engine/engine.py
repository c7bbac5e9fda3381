"""The training loop's face: bind a run to a repo, commit it, put it back, fork it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

from gradient.checkpoint.draft import draft
from gradient.checkpoint.snapshots import Snapshots
from gradient.engine import attached, attaching, parting, ranks
from gradient.engine.anchoring import Anchoring
from gradient.engine.background import Background
from gradient.engine.environment import capture_environment
from gradient.engine.epochs import Epochs
from gradient.engine.finite import Guard
from gradient.engine.forking import fork_run, restart_optimizer
from gradient.engine.generators import Generators
from gradient.engine.handoff import ForkOptions, check_interval
from gradient.engine.hparams import check_hparams
from gradient.engine.job import Job, acknowledged
from gradient.engine.metrics import numbers
from gradient.engine.outcome import Facts
from gradient.engine.preemption import Preemption
from gradient.engine.recording import Recorder, check_message, check_step
from gradient.engine.registering import registered
from gradient.engine.restoring import Restored, restore_run
from gradient.engine.revision import Revision, settled
from gradient.engine.room import Room
from gradient.engine.standing import Standing
from gradient.engine.upkeep import Upkeep
from gradient.engine.warning import warn
from gradient.errors import ConfigError, EngineClosedError, InvalidNameError
from gradient.repo import runs
from gradient.repo.config import timestamp
from gradient.repo.damage import naming_commits
from gradient.repo.lines import Line, check_order
from gradient.repo.repository import Repository
from gradient.state import edits
from gradient.state.capture import capture
from gradient.state.loader import ResumableLoader, loader_name
from gradient.state.run import Run, check_name, check_objects
from gradient.view import cards
from gradient.view.files import ViewFiles

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

    from gradient.repo.config import GradientConfig


class GradientEngine:
    """A training run bound to one branch of one repo.

    Made by `attach`; used by one thread of one process. Every method raises EngineClosedError
    after `close()` and in a forked child.
    """

    def __init__(
        self,
        repo: Repository,
        line: Line,
        run: Run,
        asked: attaching.Request,
        hparams: Mapping[str, Any] | None,
    ) -> None:
        self._repo = repo
        self._run = run
        self._asked = asked
        self._at = Standing(line)
        self._recorder = Recorder(
            repo,
            asked.mode,
            hparams,
            capture_environment(),
            asked.reason,
            Anchoring(repo, asked.mode, asked.config.reanchor_interval),
        )
        self._view = ViewFiles(repo, asked.config.view)
        self._preemption = preemption = Preemption()
        self._room = Room(
            asked.config.on_full,
            repo.path,
            self._view,
            hurried=lambda: preemption.ending,
        )
        self._upkeep = Upkeep(repo, asked.config.keep, asked.config.maintenance)
        self._baseline = edits.baseline(run.optimizer, run.scheduler)
        self._generators = Generators(run.optimizer)
        self._guard = Guard(asked.config.on_nonfinite)
        self._every = asked.handoff.autocommit
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

    # -- Attaching ---------------------------------------------------------------------------

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
        asked = attaching.request(workspace=workspace, repo=repo, config=config, resume=resume)
        before = attached.detach(model)
        opened = attaching.open_repository(asked)
        line = Line.open(opened, opened.active_branch(asked.branch))
        parting.remember(line)
        engine = cls(opened, line, Run(model, optimizer, scheduler), asked, hparams)
        try:
            engine._begin(before)
        except BaseException:
            engine.close()
            raise
        parting.remember(engine._at.line)
        attached.remember(model, engine, engine._at)
        return engine

    def _begin(self, before: Standing | None) -> None:
        """Resume or fork as asked; else go on, or warn that the branch has history."""
        asked, line = self._asked, self._at.line
        handoff = asked.handoff
        handoff.consume()
        attaching.tell_outside(self._run)
        begun = None if handoff.id is None else runs.branch_moved_by(self._repo, asked.reason)
        if begun is not None:
            # An earlier process of this launch has committed already: a restart goes on from there.
            self._at.line = Line.open(self._repo, begun)
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

    # -- Committing --------------------------------------------------------------------------

    def commit(
        self, step: int, message: str = "", *, metrics: Mapping[str, Any] | None = None
    ) -> Revision:
        """Record the whole training state at a step; it is durable when this returns.

        Returns the revision (``"main@100"``). `metrics` join those of `log`. Raises StepError for
        a step that is negative, not an integer or below the line's last, UnsupportedValueError
        for registered state that has no encoding, NonfiniteError where `on_nonfinite` asks for it,
        GradientIOError where the file system refuses;
        the earlier commits stay as they were.

        In the background it returns when the state is copied, and waits before that while
        `max_pending` commits are unfinished; the revision's `wait` says when it is durable. A
        commit that failed since the last call is raised here first, and this one is not made;
        but where the run is preempted, this one is, and the failure is in the log.
        """
        self._check_usable()
        self._tell(ending=self._preemption.ending)
        revision = self._commit(step, message, metrics)
        self._end_of(revision.step)
        return revision

    def _commit(
        self,
        step: int,
        message: str = "",
        metrics: Mapping[str, Any] | None = None,
        *,
        last: bool = False,
    ) -> Revision:
        """Commit; the `last` one of a run that ends is durable at once, and never skipped."""
        step, message = check_step(step), check_message(message)
        background = None if last else self._background
        logged = {**self._logged, **numbers(metrics)}
        if not ranks.commits():
            return self._committed(Revision(self.branch, step))
        check_order(step, after=self._at.step)
        if background is not None:
            background.room()
            self._tell(ending=self._preemption.ending)
        state = capture(self._run)
        finite, bad = self._guard.look(state["model"], f"{self.branch}@{step}")
        job = Job(
            self._recorder,
            self._room,
            self._view,
            self._upkeep,
            self._at.line,
            draft(state),
            self._at.carried(state),
            step,
            message,
            logged,
            self._at.origin,
            timestamp(),
            finite,
            optional=not last,
        )
        if background is not None:
            outcome = background.submit(job)
            revision = self._committed(Revision(self.branch, step, of=outcome))
            warnings: tuple[str, ...] = ()
        else:
            published = job.record()
            if published is None:
                self._generators.release()
                self._logged = logged
                revision, warnings = (
                    Revision(self.branch, step, of=Facts(self.branch, skipped=True)),
                    (),
                )
            else:
                self._committed(Revision(published.branch, step))
                facts = acknowledged(self._view, self._upkeep, published, state)
                self._at.last = revision = Revision(facts.branch, step, of=facts)
                warnings = published.warnings
        # Last, for a warning may be an error: what was committed is noted by then.
        for text in (*bad, *warnings, *self._at.unclaimed(job.carried)):
            warn(text)
        return revision

    def _committed(self, revision: Revision) -> Revision:
        self._generators.release()
        self._logged.clear()
        self._at.committed(revision)
        return revision

    def flush(self, timeout: float | None = None) -> None:
        """Return when every commit that was made in the background is durable.

        Raises what one failed with, unless somebody was told already, and PendingError after
        `timeout` seconds.
        """
        self._check_usable()
        self._drain(timeout)

    def _drain(self, timeout: float | None = None) -> None:
        if self._background is not None:
            self._background.flush(timeout)
            self._tell()

    def _drain_at_end(self, *, preempted: bool = False) -> None:
        """Drain, which a terminal shows if it takes long."""
        if self._background is not None:
            self._background.finish()
            self._tell(ending=preempted)

    def _tell(self, *, ending: bool = False) -> None:
        """Say what happened in the background since the last call: warn, and raise failures."""
        if self._background is not None:
            self._background.tell(self._at, ending=ending)

    def autocommit(self, every: int) -> None:
        """Let `maybe_commit` commit each step that `every` divides; wins over the environment."""
        self._check_usable()
        self._every = check_interval(every)

    def maybe_commit(
        self, step: int, *, metrics: Mapping[str, Any] | None = None
    ) -> Revision | None:
        """Commit if `autocommit` says so; called after every step of the loop.

        A step that this engine has just committed is not committed again.
        """
        self._check_usable()
        self._tell(ending=self._preemption.ending)
        step = check_step(step)
        self._generators.release()
        if metrics is not None:
            self.log(**metrics)
        due = self._every is not None and step % self._every == 0
        revision = self._commit_once(step) if due else None
        self._end_of(step)
        return revision

    def _commit_once(self, step: int, *, last: bool = False) -> Revision | None:
        made = self._at.last
        return self._commit(step, last=last) if made is None or made.step != step else None

    def log(self, /, **metrics: Any) -> None:
        """Note numbers (or zero-dim tensors) for the next commit; the newest value of a name wins.

        Names that are not identifiers go through a dict: ``engine.log(**{"val/loss": 2.3})``.
        """
        self._check_usable()
        self._logged.update(numbers(metrics))

    # -- Going back --------------------------------------------------------------------------

    def resume(
        self,
        ref: str,
        *,
        strict: bool = True,
        components: Sequence[str] | None = None,
        reset_optimizer: bool = False,
    ) -> int:
        """Put the run back to a commit, bit for bit, and go on from there; returns its step.

        ``"B@N"`` and ``"B"`` move the engine to branch B (unless GRADIENT_BRANCH fixes another);
        a tag or an id leaves it on its branch. `strict=False` loads what matches by name, shape
        and dtype and resets the optimizer state of the rest. `components=("model",)` is a warm
        start: only these change, the step and the line stay as they are. `reset_optimizer` empties
        the optimizer's state, as where retention has let go of it.

        All or nothing: raises MisfitError, UnknownRevisionError, ForgottenError or IntegrityError
        before any live object has changed.
        """
        self._check_usable()
        self._drain()
        ref = settled(ref)
        with naming_commits(self._repo):
            return self._resume(
                ref, strict=strict, components=components, reset_optimizer=reset_optimizer
            )

    def _resume(
        self,
        ref: str,
        *,
        strict: bool,
        components: Sequence[str] | None,
        reset_optimizer: bool,
    ) -> int:
        if reset_optimizer and components is not None:
            raise ConfigError("reset_optimizer: a warm start by components leaves it out instead")
        at = self._at
        line = self._line_of(self._repo.resolve(ref, branch=at.line.branch).branch)
        # Only now, for the tip that the line has seen must not be newer than what is restored.
        found = self._repo.resolve(ref, branch=at.line.branch)
        restored = restore_run(
            self._repo,
            self._run,
            found.oid,
            strict=strict,
            components=components,
            without={"optimizer"} if reset_optimizer else set(),
            then=self._restart_optimizer if reset_optimizer else None,
        )
        if components is not None:
            at.origin = restored.origin | {"components": list(components)}
            return restored.commit.step
        line.position = found.oid
        self._moved(line, restored)
        return at.step

    def _restart_optimizer(self, restored: Restored) -> None:
        restart_optimizer(self._repo, self._run, restored)

    def _moved(self, line: Line, restored: Restored) -> None:
        self._at.moved(line, restored, claimed=self._run.registered)
        parting.remember(line)
        self._generators.hold(restored.generators)
        if self._background is not None:
            self._background.snapshots.stand_at(restored.commit.tree)

    def _line_of(self, branch: str | None) -> Line:
        """Open the line that a resume by way of `branch` (None: by a tag or an id) goes on with."""
        if branch is None or self._asked.handoff.branch is not None:
            branch = self._at.line.branch
        return Line.open(self._repo, branch)

    def resume_latest(self, missing_ok: bool = False) -> int:
        """Resume the tip of the active branch's line; with `missing_ok`, 0 where there is none."""
        self._check_usable()
        self._drain()
        if missing_ok and self._repo.tip(self.branch) is None:
            return 0
        return self.resume("latest")

    def fork(
        self,
        *,
        from_ref: str,
        new_branch: str,
        reset_optimizer: bool = False,
        reset_scheduler: bool = False,
        reset_rng_seed: int | None = None,
        set: Mapping[str, Any] | None = None,
        scale_lr: float | None = None,
        message: str = "",
        strict: bool = True,
    ) -> Revision:
        """Start a branch at a commit, and go on on it.

        Loads the source as `resume` does, applies the resets and settings to the live objects, and
        records the result as ``new_branch@step``, sharing every chunk. `set` replaces param-group
        options (``{"lr": 1e-2}``) and `scale_lr` multiplies every learning rate, in the groups,
        their initial values and the scheduler's base rates alike. `reset_optimizer` empties the
        optimizer's state; `reset_scheduler` starts the schedule as it was at attach;
        `reset_rng_seed` reseeds every generator.

        Raises BranchExistsError, ConfigError for an option that no group has, and what `resume`
        raises.
        """
        self._check_usable()
        self._drain()
        options = ForkOptions(
            reset_optimizer=reset_optimizer,
            reset_scheduler=reset_scheduler,
            reset_rng_seed=reset_rng_seed,
            set=set,
            scale_lr=scale_lr,
            partial=not strict,
            message=message,
        )
        with naming_commits(self._repo):
            return self._fork(settled(from_ref), self._new_line(new_branch), options)

    def rollback(
        self,
        *,
        reset_rng_seed: int | None = None,
        scale_lr: float | None = None,
        message: str = "",
    ) -> Revision:
        """Go back to the last commit of this line that is finite, and on from there.

        That is ``BRANCH@last-finite``: its weights, and its metrics. An exact restore alone would
        compute the same divergence again: `scale_lr` multiplies every learning rate,
        `reset_rng_seed` reseeds every generator. The result is committed at once, at the step that
        it goes back to, so that a restart goes on from there as well; what the branch stood on is
        set aside. A loop over `steps` goes on with the step after it.

        Raises UnknownRevisionError where no commit is known to be finite, and what `fork` raises.
        """
        self._check_usable()
        self._drain()
        options = ForkOptions(
            reset_rng_seed=reset_rng_seed, scale_lr=scale_lr, message=message or "rollback"
        )
        line = Line.open(self._repo, self.branch)
        with naming_commits(self._repo):
            revision = self._fork(f"{self.branch}@last-finite", line, options)
        if reset_rng_seed is None and scale_lr is None:
            warn(
                f"rolled back to {revision} with nothing changed: the run will diverge as before; "
                f"pass scale_lr or reset_rng_seed"
            )
        return revision

    def _new_line(self, branch: str) -> Line:
        # Of several ranks only the first makes the branch; it may be there before the others look.
        return Line.create(self._repo, branch) if ranks.commits() else Line(self._repo, branch)

    def _fork(self, from_ref: str, line: Line, options: ForkOptions) -> Revision:
        source = self._repo.resolve(from_ref, branch=self.branch).oid
        line.moved_to(source)
        recorder = self._recorder if ranks.commits() else None
        forked = fork_run(
            self._repo, self._run, recorder, self._room, line, source, self._baseline, options
        )
        self._moved(line, forked.restored)
        facts = Facts(line.branch)
        warnings: tuple[str, ...] = ()
        if forked.published is not None:
            facts = acknowledged(self._view, self._upkeep, forked.published, None)
            warnings = forked.published.warnings
        self._at.last = Revision(facts.branch, self._at.step, of=facts)
        for text in warnings:
            warn(text)
        return self._at.last

    def register_state(
        self,
        name: str,
        getter: Callable[[], Any] | Any = None,
        setter: Callable[[Any], Any] | None = None,
        *,
        required: bool = True,
        pickle: bool = False,
    ) -> None:
        """Make something part of every commit: a getter and a setter, or one object.

        The object has `state_dict` and `load_state_dict` (a GradScaler, an EMA, a second
        optimizer). If a commit was resumed already, its state is restored now. `pickle=True` lets
        this one name hold any Python object; it is unpickled only where the same name is
        registered so.

        Raises InvalidNameError for a name that is taken, and MisfitError if the resumed commit
        lacks it, unless `required=False`.
        """
        self._check_usable()
        self._drain()
        check_name(name)
        if name in self._run.registered:
            raise InvalidNameError(name, "a state is registered under it already")
        entry = registered(getter, setter, required=required, pickle=pickle)
        at = self._at
        if at.restored is not None and name not in at.claimed:
            with naming_commits(self._repo):
                at.restored.claim(self._repo, name, entry)
        at.claimed.add(name)
        self._run.registered[name] = entry
        self._generators.watch(getter)

    # -- The loop ----------------------------------------------------------------------------

    def start(self) -> None:
        """Say that the training loop starts: a resumed run's generators are put back once more."""
        self._check_usable()
        self._generators.replay()

    def steps(self, stop: int) -> Iterator[int]:
        """Yield the steps still to run: from the one after `current_step` to `stop` inclusive.

        Where the loop goes back (`rollback`, `resume`, `fork`), it goes on from there.
        """
        self._check_usable()
        restored, step = self._at.restored, self._at.step
        self._generators.replay()
        while step < stop:
            step += 1
            yield step
            if self._at.restored is not restored:
                restored, step = self._at.restored, self._at.step
                self._generators.replay()
            if not self._closed:
                self._end_of(step)

    def loader(self, dataloader: DataLoader[Any]) -> ResumableLoader:
        """Wrap a DataLoader so that a resumed run goes on in mid-epoch, without re-reading data."""
        self._check_usable()
        loader = ResumableLoader(dataloader)
        loader.spare_workers(self._preemption.handled)
        number = len(self._loaders)
        self._loaders.append(loader)
        self.register_state(loader_name(number), loader, required=False)
        return loader

    def epochs(self, start: int, stop: int) -> Iterator[int]:
        """Yield the epochs still to run, beginning inside the one that the commit was made in."""
        self._check_usable()
        if self._epochs is None:
            self._epochs = Epochs(self._loaders)
            self.register_state("epochs", self._epochs, required=False)
        self._generators.replay()
        return self._epochs.iterate(start, stop)

    # -- Ending ------------------------------------------------------------------------------

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
            loader.spare_workers(self._preemption.handled)

    @property
    def preempted(self) -> bool:
        """Whether a signal of `handle_preemption` has come; the run ends after this step."""
        return self._preemption.asked is not None

    def _end_of(self, step: int) -> None:
        """End the run here, after a step, if it was preempted."""
        if self._preemption.due(step):
            self._preemption.leave(step, commit=lambda: self._commit_last(step))

    def _commit_last(self, step: int) -> None:
        """Make the run durable as it is after a step; commits that failed are in the log."""
        self._drain_at_end(preempted=True)
        self._commit_once(step, last=True)

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
            attached.forget(self._run.model)
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

    # -- Facts -------------------------------------------------------------------------------

    @property
    def current_step(self) -> int:
        """0 on a fresh run, the restored step after a resume, then the last commit's.

        Reading it before the loop runs puts a resumed run's generators back (see `start`).
        """
        self._generators.replay()
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
        return cards.card(f"GradientEngine {self.repo_name}", facts)


def _finish(
    pid: int,
    generators: Generators,
    preemption: Preemption,
    view: ViewFiles,
    upkeep: Upkeep,
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
