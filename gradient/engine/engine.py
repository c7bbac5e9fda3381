"""`GradientEngine`: every public method of an attached run, each one call from the code behind it.

Where to read on:

- `attach`: `attach_request`, then `resume.Resumer.begin`
- `commit`, `maybe_commit`, `log`: `commit.committer`
- `resume`, `fork`, `rollback`, `register_state`: `resume`
- `steps`, `epochs`, `loader`: `loop`
- `handle_preemption`: `preemption`
- `close` and the end of the process: `session`, `shutdown`
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

from gradient.engine import attach_request, ranks, registry
from gradient.engine.commit.commit_handle import Revision
from gradient.engine.commit.committer import Committer
from gradient.engine.fork_options import ForkOptions
from gradient.engine.hparams import check_hparams
from gradient.engine.loop import Loop
from gradient.engine.resume import Resumer
from gradient.engine.session import Session
from gradient.engine.shutdown import crash_hint
from gradient.repo.branch_writer import BranchWriter
from gradient.state.live_objects import LiveObjects, check_objects
from gradient.state.loader import ResumableLoader
from gradient.view import html

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

    from gradient.repo.config import GradientConfig


class GradientEngine:
    """A training run attached to one branch of one repo.

    Create it with `attach`; use it from one thread of one process. Every method raises
    EngineClosedError after `close()` and in a forked child.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._committer = Committer(session, session.request.launch_env.autocommit)
        self._resumer = Resumer(session)
        self._loop = Loop(session, self._committer, self._resumer)

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
        """Attach a model, its optimizer and its scheduler to a repo.

        `workspace` and `repo` (or a config with both) create the repo if it does not exist. `repo`
        alone creates it in the workspace around the current directory. With neither, `attach` looks
        for a repo in the current directory and its parents, then in the only workspace of a direct
        subfolder. `scheduler` is any object with `state_dict` and `load_state_dict`. `resume` is a
        revision, ``"latest"``, or ``"auto"`` (the latest commit if there is one). `hparams` is a
        flat dict that every commit records.

        These environment variables override the arguments: GRADIENT_WORKSPACE, GRADIENT_REPO,
        GRADIENT_BRANCH, GRADIENT_RESUME_REF, GRADIENT_AUTOCOMMIT. GRADIENT_SAFE_DIRECTORY names
        repos of other users that this process may write to. Attaching a model again closes its
        first engine and continues on the same branch.

        Raises ContextError if no repo can be found, OwnershipError for another user's repo that is
        not trusted, ForeignRepoError for a repo of another program, ConfigError for invalid
        settings, UnsupportedValueError for a sharded model, and everything that `resume` raises.
        """
        check_objects(model, optimizer, scheduler)
        ranks.refuse_sharded(model)
        hparams = None if hparams is None else check_hparams(hparams)
        request = attach_request.request(
            workspace=workspace, repo=repo, config=config, resume=resume
        )
        previous = registry.detach(model)
        opened = attach_request.open_repository(request)
        writer = BranchWriter.open(opened, opened.active_branch(request.branch))
        crash_hint.remember(writer)
        objects = LiveObjects(model, optimizer, scheduler)
        session = Session(opened, writer, objects, request, hparams)
        engine = cls(session)
        try:
            attach_request.warn_of_foreign_parameters(objects)
            engine._resumer.begin(previous)
        except BaseException:
            session.close()
            raise
        crash_hint.remember(session.position.branch_writer)
        registry.remember(model, session, session.position)
        return engine

    # -- Commit --------------------------------------------------------------------------------

    def commit(
        self, step: int, message: str = "", *, metrics: Mapping[str, Any] | None = None
    ) -> Revision:
        """Record the whole training state at a step; the commit is durable when this returns.

        Returns the revision, such as ``"main@100"``. `metrics` are recorded together with those of
        `log`. With ``GradientConfig(background=True)`` the call returns once the state is copied,
        and waits first while `max_pending` commits are unfinished; the revision's `wait` returns
        when the commit is durable. A background commit that failed since the last call raises its
        error here, and this commit is not made. If the run is preempted, this commit is made and
        the failure is logged.

        Raises StepError if the step is negative, not an integer or below the branch's last step,
        UnsupportedValueError for a registered state that has no encoding, NonfiniteError if
        ``on_nonfinite="raise"`` and the weights are not finite, GradientIOError if the file system
        refuses. Earlier commits stay as they are.
        """
        return self._committer.commit(step, message, metrics)

    def maybe_commit(
        self, step: int, *, metrics: Mapping[str, Any] | None = None
    ) -> Revision | None:
        """Commit if `autocommit` asks for this step; call it after every step of the loop.

        Returns the revision, or None if nothing was committed. A step that this engine has just
        committed is not committed again. Raises what `commit` raises.
        """
        return self._committer.maybe_commit(step, metrics)

    def autocommit(self, every: int) -> None:
        """Let `maybe_commit` commit each step that `every` divides.

        This overrides GRADIENT_AUTOCOMMIT. A loop over `steps` that never calls `maybe_commit` is
        warned once. Raises ConfigError if `every` is not a positive int.
        """
        self._committer.set_interval(every)

    def log(self, several: Mapping[str, Any] | None = None, /, **metrics: Any) -> None:
        """Note numbers or zero-dim tensors for the next commit; the newest value of a name wins.

        Pass them by name, ``engine.log(loss=2.3)``, or as a dict,
        ``engine.log({"val/loss": 2.3})``.
        """
        self._committer.log(several, metrics)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every background commit is durable.

        Raises the error of the first commit that failed and was not reported yet, and PendingError
        after `timeout` seconds.
        """
        self._session.drain(timeout)

    # -- Resume and fork -----------------------------------------------------------------------

    def resume(
        self,
        ref: str,
        *,
        strict: bool = True,
        components: Sequence[str] | None = None,
        reset_optimizer: bool = False,
    ) -> int:
        """Restore a commit bit for bit and continue from it; returns its step.

        ``"B@N"`` and ``"B"`` move the engine to branch B, unless GRADIENT_BRANCH names another. A
        tag or an id leaves it on its branch. `strict=False` loads the parameters that match by
        name, shape and dtype, and resets the optimizer state of the others.
        `components=("model",)` is a warm start: only these components are restored, and the step
        and the branch stay as they are. `reset_optimizer` empties the optimizer's state; it is
        needed for commits whose optimizer state was dropped.

        All or nothing: raises MisfitError, UnknownRevisionError, ForgottenError or IntegrityError
        before any live object has changed.
        """
        return self._resumer.resume(
            ref, strict=strict, components=components, reset_optimizer=reset_optimizer
        )

    def resume_latest(self, missing_ok: bool = False) -> int:
        """Restore the tip of the active branch; with `missing_ok`, return 0 if there is none.

        Raises what `resume` raises.
        """
        return self._resumer.resume_latest(missing_ok=missing_ok)

    def fork(
        self,
        from_ref: str,
        new_branch: str,
        *,
        reset_optimizer: bool = False,
        reset_scheduler: bool = False,
        reset_rng_seed: int | None = None,
        set: Mapping[str, Any] | None = None,
        scale_lr: float | None = None,
        message: str = "",
        strict: bool = True,
    ) -> Revision:
        """Start a branch at a commit, and continue on it.

        Restores the source as `resume` does, applies the options to the live objects, and records
        the result as ``new_branch@step``; the new commit shares every unchanged chunk with its
        source. `set` replaces param-group options (``{"lr": 1e-2}``). `scale_lr` multiplies every
        learning rate: in the param groups, in their initial values and in the scheduler's base
        rates. `reset_optimizer` empties the optimizer's state. `reset_scheduler` restarts the
        schedule with the learning rates at attach. `reset_rng_seed` reseeds every generator.

        Raises BranchExistsError, ConfigError for an option that no param group has,
        GradientIOError if the file system refuses (a fork is never skipped), and what `resume`
        raises. After an error the run is as it was.
        """
        options = ForkOptions(
            reset_optimizer=reset_optimizer,
            reset_scheduler=reset_scheduler,
            reset_rng_seed=reset_rng_seed,
            set=set,
            scale_lr=scale_lr,
            strict=strict,
            message=message,
        )
        return self._resumer.fork(from_ref, new_branch, options)

    def rollback(
        self,
        *,
        reset_rng_seed: int | None = None,
        scale_lr: float | None = None,
        message: str = "",
    ) -> Revision:
        """Restore the newest finite commit of the branch, and continue from it.

        This is ``BRANCH@last-finite``: its weights were checked or it has metrics, and neither
        contains NaN or infinite values. The exact state alone would diverge again in the same way:
        `scale_lr` multiplies every learning rate, `reset_rng_seed` reseeds every generator. The
        result is committed at once, at the step of the restored commit, so that a restart continues
        from it. The branch's old tip is set aside. A loop over `steps` continues with the next
        step.

        Raises UnknownRevisionError if no commit is known to be finite, and what `fork` raises.
        """
        options = ForkOptions(
            reset_rng_seed=reset_rng_seed, scale_lr=scale_lr, message=message or "rollback"
        )
        return self._resumer.rollback(options)

    def register_state(
        self,
        name: str,
        getter: Callable[[], Any] | Any = None,
        setter: Callable[[Any], Any] | None = None,
        *,
        required: bool = True,
        pickle: bool = False,
    ) -> None:
        """Add a state to every commit: a getter and a setter, or one object.

        The object has `state_dict` and `load_state_dict` (a GradScaler, an EMA, a second
        optimizer). If the run was resumed already, the state is restored now. `pickle=True` lets
        this one name hold any Python object; it is unpickled only if the same name is registered
        with `pickle=True`.

        Raises InvalidNameError for a name that is taken, and MisfitError if the resumed commit
        does not have it, unless `required=False`.
        """
        self._resumer.register_state(name, getter, setter, required=required, pickle=pickle)

    # -- The loop ------------------------------------------------------------------------------

    def start(self) -> None:
        """Mark the start of the training loop: the generators of a resumed run are restored again.

        Later reads of `current_step` restore nothing. `steps` and `epochs` call this themselves.
        """
        self._loop.start()

    def steps(self, stop: int) -> Iterator[int]:
        """Yield the remaining steps: from the one after `current_step` to `stop` inclusive.

        After a `rollback`, `resume` or `fork` inside the loop, it continues from there.
        """
        return self._loop.steps(stop)

    def epochs(self, start: int, stop: int | None = None) -> Iterator[int]:
        """Yield the remaining epochs, beginning inside the epoch of the resumed commit.

        As with `range`, ``epochs(5)`` means ``epochs(0, 5)``.
        """
        return self._loop.epochs(start, stop)

    def loader(self, dataloader: DataLoader[Any]) -> ResumableLoader:
        """Wrap a DataLoader so that a resumed run continues in mid-epoch, reading nothing twice."""
        return self._loop.loader(dataloader)

    def handle_preemption(self, *signals: int) -> None:
        """Let a signal (by default SIGTERM) end the run after the current step.

        The handler notes the signal and calls the handler that was installed before. When the step
        is over (the loop returns to `steps`, or calls `maybe_commit` or `commit`), the run is
        committed and SystemExit(75) is raised, which asks a scheduler to start the job again. If
        several ranks call this, all of them end after the same step.

        `close` restores the former handlers. Raises ConfigError outside the main thread.
        """
        self._loop.handle_preemption(signals)

    @property
    def preempted(self) -> bool:
        """True if a signal of `handle_preemption` has arrived; the run ends after this step."""
        return self._session.preemption.asked is not None

    # -- Properties ----------------------------------------------------------------------------

    @property
    def current_step(self) -> int:
        """0 on a fresh run, the restored step after a resume, then the last commit's step.

        Reading it before the loop runs restores a resumed run's generators. A loop that reads it
        before its first backward pass should call `start` first.
        """
        self._session.rng_rewind.before_loop()
        return self._session.position.step

    @property
    def workspace_path(self) -> str:
        """The workspace's folder."""
        return str(PurePath(self._session.repo.path).parent)

    @property
    def repo_path(self) -> str:
        """The repo's folder."""
        return self._session.repo.path

    @property
    def repo_name(self) -> str:
        """The repo's name."""
        return PurePath(self._session.repo.path).name

    @property
    def branch(self) -> str:
        """The branch that the next commit goes to."""
        return self._session.position.branch

    # -- The end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish the background commits and detach from the model; calling it again is harmless.

        A wait of more than a second shows a progress line on standard error if that is a terminal.
        Raises the error of a background commit that failed; the engine is closed nevertheless.
        """
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        closed, step = self._session.closed, self._session.position.step
        state = "closed" if closed else f"{self.branch}@{step}"
        return f"<GradientEngine {self.repo_name} {state}>"

    def _repr_html_(self) -> str:
        # Not `current_step`: showing the engine in a notebook must not restore the generators.
        facts = {
            "branch": self.branch,
            "step": self._session.position.step,
            "repo": self.repo_path,
            "registered": ", ".join(self._session.objects.registered),
            "state": "closed" if self._session.closed else "attached",
        }
        return html.card(f"GradientEngine {self.repo_name}", facts)
