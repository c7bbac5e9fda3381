"""A run that is put elsewhere: back to a commit, or to where a branch parts from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradient.engine import ranks
from gradient.engine.commit.commit_future import CommitResult
from gradient.engine.commit.commit_handle import Revision, settled
from gradient.engine.commit.pending_commit import acknowledged
from gradient.engine.committing import CommittingRun
from gradient.engine.fork import fork_run, restart_optimizer
from gradient.engine.launch_env import ForkOptions
from gradient.engine.registered_state import registered
from gradient.engine.restore import Restored, restore_run
from gradient.engine.shutdown import crash_hint
from gradient.engine.warning import warn
from gradient.errors import ConfigError, InvalidNameError
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.damage import naming_commits
from gradient.state.live_objects import check_name


class MovingRun(CommittingRun):
    """The way from a commit to live objects."""

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

    def resume_latest(self, missing_ok: bool = False) -> int:
        """Resume the tip of the active branch's line; with `missing_ok`, 0 where there is none."""
        self._check_usable()
        self._drain()
        if missing_ok and self._repo.tip(self.branch) is None:
            return 0
        return self.resume("latest")

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
        """Start a branch at a commit, and go on on it.

        Loads the source as `resume` does, applies the resets and settings to the live objects, and
        records the result as ``new_branch@step``, sharing every chunk. `set` replaces param-group
        options (``{"lr": 1e-2}``) and `scale_lr` multiplies every learning rate, in the groups,
        their initial values and the scheduler's base rates alike. `reset_optimizer` empties the
        optimizer's state; `reset_scheduler` starts the schedule as it was at attach;
        `reset_rng_seed` reseeds every generator.

        Raises BranchExistsError, ConfigError for an option that no group has, GradientIOError
        where the file system refuses (it is never skipped), and what `resume` raises; the run is
        then as it was.
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
        line = BranchWriter.open(self._repo, self.branch)
        with naming_commits(self._repo):
            revision = self._fork(f"{self.branch}@last-finite", line, options)
        if reset_rng_seed is None and scale_lr is None:
            warn(
                f"rolled back to {revision} with nothing changed: the run will diverge as before; "
                f"pass scale_lr or reset_rng_seed"
            )
        return revision

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

    def _moved(self, line: BranchWriter, restored: Restored) -> None:
        self._at.moved(line, restored, claimed=self._run.registered)
        crash_hint.remember(line)
        self._generators.hold(restored.generators)
        if restored.generators is not None:
            ranks.tell_generators()
        if self._background is not None:
            self._background.snapshots.restored_to(restored.commit.tree)

    def _line_of(self, branch: str | None) -> BranchWriter:
        """Open the line that a resume by way of `branch` (None: by a tag or an id) goes on with."""
        if branch is None or self._asked.handoff.branch is not None:
            branch = self._at.line.branch
        return BranchWriter.open(self._repo, branch)

    def _new_line(self, branch: str) -> BranchWriter:
        # Of several ranks only the first makes the branch; it may be there before the others look.
        return (
            BranchWriter.create(self._repo, branch)
            if ranks.commits()
            else BranchWriter(self._repo, branch)
        )

    def _fork(self, from_ref: str, line: BranchWriter, options: ForkOptions) -> Revision:
        source = self._repo.resolve(from_ref, branch=self.branch).oid
        line.moved_to(source)
        recorder = self._recorder if ranks.commits() else None
        forked = fork_run(
            self._repo, self._run, recorder, self._room, line, source, self._baseline, options
        )
        self._moved(line, forked.restored)
        facts = CommitResult(line.branch)
        warnings: tuple[str, ...] = ()
        if forked.published is not None:
            facts = acknowledged(self._view, self._upkeep, forked.published, None)
            warnings = forked.published.warnings
        self._at.last = Revision(facts.branch, self._at.step, of=facts)
        for text in warnings:
            warn(text)
        return self._at.last
