"""A run that commits: at a step, when it is due, and for the last time where it was preempted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradient.checkpoint.draft import draft
from gradient.engine import ranks
from gradient.engine.bound import BoundRun
from gradient.engine.commit.commit_future import CommitResult
from gradient.engine.commit.commit_handle import Revision
from gradient.engine.commit.commit_writer import check_message, check_step
from gradient.engine.commit.gc_pause import uncollected
from gradient.engine.commit.pending_commit import PendingCommit, acknowledged
from gradient.engine.launch_env import check_interval
from gradient.engine.metrics import numbers
from gradient.engine.warning import warn
from gradient.objects import timestamp
from gradient.repo.branch_writer import Published, check_order
from gradient.state.capture import capture


class CommittingRun(BoundRun):
    """The way from live objects to a commit."""

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
        self._is_committing = True
        self._tell(quietly=self._preemption.ending)
        with uncollected():
            revision = self._commit(step, message, metrics)
        self._end_of(revision.step)
        return revision

    def flush(self, timeout: float | None = None) -> None:
        """Return when every commit that was made in the background is durable.

        Raises what one failed with, unless somebody was told already, and PendingError after
        `timeout` seconds.
        """
        self._check_usable()
        self._drain(timeout)

    def autocommit(self, every: int) -> None:
        """Let `maybe_commit` commit each step that `every` divides; wins over the environment.

        A loop over `steps` that never calls `maybe_commit` is warned.
        """
        self._check_usable()
        self._every = check_interval(every)

    def maybe_commit(
        self, step: int, *, metrics: Mapping[str, Any] | None = None
    ) -> Revision | None:
        """Commit if `autocommit` says so; called after every step of the loop.

        A step that this engine has just committed is not committed again.
        """
        self._check_usable()
        self._is_committing = True
        self._tell(quietly=self._preemption.ending)
        step = check_step(step)
        self._generators.release()
        if metrics is not None:
            self.log(metrics)
        due = self._every is not None and step % self._every == 0
        revision = self._commit_once(step) if due else None
        self._end_of(step)
        return revision

    def _look_for_commits(self, step: int) -> None:
        """Warn once where `autocommit` asks for a commit, and the loop has asked for none."""
        if self._every is None or step % self._every or self._is_committing or self._closed:
            return
        self._is_committing = True
        warn(
            f"autocommit asks for a commit every {self._every} steps, but the loop never calls "
            f"maybe_commit: nothing is committed; write engine.maybe_commit(step) at its end"
        )

    def log(self, several: Mapping[str, Any] | None = None, /, **metrics: Any) -> None:
        """Note numbers (or zero-dim tensors) for the next commit; the newest value of a name wins.

        By name, ``engine.log(loss=2.3)``, or as a dict: ``engine.log({"val/loss": 2.3})``.
        """
        self._check_usable()
        self._logged.update(numbers(several) | numbers(metrics))

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
        logged = {**self._logged, **numbers(metrics)}
        if not ranks.commits():
            return self._committed(Revision(self.branch, step))
        check_order(step, after=self._at.step)
        background = None if last else self._background
        if background is not None:
            background.room()
            self._tell(quietly=self._preemption.ending)
        state = capture(self._run)
        finite, bad = self._guard.look(state["model"], f"{self.branch}@{step}")
        job = PendingCommit(
            recorder=self._recorder,
            room=self._room,
            view=self._view,
            upkeep=self._upkeep,
            line=self._at.line,
            draft=draft(state),
            carried=self._at.carried(state),
            step=step,
            message=message,
            metrics=logged,
            origin=self._at.origin,
            time=timestamp.now(),
            finite=finite,
            optional=not last,
        )
        warnings: Sequence[str] = ()
        if background is not None:
            outcome = background.submit(job)
            revision = self._committed(Revision(self.branch, step, of=outcome))
        elif (published := job.record()) is not None:
            revision = self._acknowledged(step, published, state)
            warnings = published.warnings
        else:
            revision = self._skipped(job)
        # Last, for a warning may be an error: what was committed is noted by then.
        for text in (*bad, *warnings, *self._at.unclaimed(job.carried)):
            warn(text)
        return revision

    def _acknowledged(
        self, step: int, published: Published, state: Mapping[str, Any] | None
    ) -> Revision:
        self._committed(Revision(published.branch, step))
        facts = acknowledged(self._view, self._upkeep, published, state)
        self._at.last = revision = Revision(facts.branch, step, of=facts)
        return revision

    def _skipped(self, job: PendingCommit) -> Revision:
        self._generators.release()
        self._logged = dict(job.metrics)
        return Revision(self.branch, job.step, of=CommitResult(self.branch, skipped=True))

    def _committed(self, revision: Revision) -> Revision:
        self._generators.release()
        self._logged.clear()
        self._at.committed(revision)
        return revision

    def _commit_once(self, step: int, *, last: bool = False) -> Revision | None:
        made = self._at.last
        if made is not None and made.step == step:
            return None
        with uncollected():
            return self._commit(step, last=last)

    def _end_of(self, step: int) -> None:
        """End the run here, after a step, if it was preempted."""
        if self._preemption.due(step):
            self._preemption.leave(step, commit=lambda: self._commit_last(step))

    def _commit_last(self, step: int) -> None:
        """Make the run durable as it is after a step; commits that failed are in the log."""
        self._drain_at_end(preempted=True)
        if self._background is not None:
            self._logged = self._background.unrecorded | self._logged
        self._commit_once(step, last=True)
