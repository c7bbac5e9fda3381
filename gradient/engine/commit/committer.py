"""The path of one commit through the engine, from the call to an acknowledged revision.

`Committer.commit` checks the order of steps, waits for a free background slot, captures the live
objects, checks the weights for NaN, and drafts the tree. The resulting `PendingCommit` is written
at once or handed to `Background`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradient.checkpoint.draft import draft
from gradient.engine import ranks
from gradient.engine.commit.commit_future import CommitResult
from gradient.engine.commit.commit_handle import Revision
from gradient.engine.commit.commit_writer import check_message, check_step
from gradient.engine.commit.gc_pause import gc_paused
from gradient.engine.commit.pending_commit import PendingCommit, acknowledge
from gradient.engine.launch_env import check_interval
from gradient.engine.metrics import numbers
from gradient.engine.session import Session
from gradient.engine.warning import warn
from gradient.objects import timestamp
from gradient.repo.branch_writer import Published, check_order
from gradient.state.capture import capture


class Committer:
    """Commits one run: on request, when due, and for the last time when it is preempted."""

    def __init__(self, session: Session, autocommit: int | None) -> None:
        self._session = session
        self._interval = autocommit
        self._was_called = False
        self._logged: dict[str, int | float] = {}

    def set_interval(self, every: int) -> None:
        """Let `maybe_commit` commit each step that `every` divides; raises ConfigError."""
        self._session.check_usable()
        self._interval = check_interval(every)

    def log(self, several: Mapping[str, Any] | None, metrics: Mapping[str, Any]) -> None:
        """Note numbers for the next commit."""
        self._session.check_usable()
        self._logged.update(numbers(several) | numbers(metrics))

    def commit(self, step: int, message: str, metrics: Mapping[str, Any] | None) -> Revision:
        """Commit now, then end the run here if it was preempted."""
        self._begin_call()
        with gc_paused():
            revision = self._commit(step, message, metrics)
        self.end_step(revision.step)
        return revision

    def maybe_commit(self, step: int, metrics: Mapping[str, Any] | None) -> Revision | None:
        """Commit if `autocommit` asks for this step, then end the run here if it was preempted."""
        self._begin_call()
        step = check_step(step)
        self._session.rng_rewind.release()
        if metrics is not None:
            self.log(metrics, {})
        due = self._interval is not None and step % self._interval == 0
        revision = self._commit_once(step) if due else None
        self.end_step(step)
        return revision

    def _begin_call(self) -> None:
        session = self._session
        session.check_usable()
        self._was_called = True
        session.report_background(quietly=session.preemption.ending)

    def warn_if_never_called(self, step: int) -> None:
        """Warn once if a step is due for `autocommit` and the loop never called `maybe_commit`."""
        due = self._interval is not None and step % self._interval == 0
        if not due or self._was_called or self._session.closed:
            return
        self._was_called = True
        warn(
            f"autocommit asks for a commit every {self._interval} steps, but the loop never calls "
            f"maybe_commit: nothing is committed; write engine.maybe_commit(step) at its end"
        )

    def end_step(self, step: int) -> None:
        """Make the last commit and exit after this step if the run was preempted."""
        preemption = self._session.preemption
        if preemption.due(step):
            preemption.leave(step, commit=lambda: self._commit_last(step))

    def _commit_last(self, step: int) -> None:
        """Make the run durable after this step; failures of earlier commits are in the log."""
        session = self._session
        session.drain_at_end(preempted=True)
        if session.background is not None:
            self._logged = session.background.unrecorded | self._logged
        self._commit_once(step, last=True)

    def _commit_once(self, step: int, *, last: bool = False) -> Revision | None:
        made = self._session.position.last
        if made is not None and made.step == step:
            return None
        with gc_paused():
            return self._commit(step, last=last)

    def _commit(
        self,
        step: int,
        message: str = "",
        metrics: Mapping[str, Any] | None = None,
        *,
        last: bool = False,
    ) -> Revision:
        """Commit; the `last` commit of a run is durable at once, and never skipped."""
        session, position = self._session, self._session.position
        step, message = check_step(step), check_message(message)
        logged = {**self._logged, **numbers(metrics)}
        if not ranks.commits():
            return self._committed(Revision(position.branch, step))
        check_order(step, after=position.step)
        background = None if last else session.background
        if background is not None:
            background.wait_for_slot()
            session.report_background(quietly=session.preemption.ending)
        state = capture(session.objects)
        finite, nonfinite = session.nan_check.check(state["model"], f"{position.branch}@{step}")
        pending = PendingCommit(
            commit_writer=session.commit_writer,
            disk_full=session.disk_full,
            view=session.view,
            maintenance=session.maintenance,
            branch_writer=position.branch_writer,
            draft=draft(state),
            carried=position.carried(state),
            step=step,
            message=message,
            metrics=logged,
            origin=position.origin,
            time=timestamp.now(),
            finite=finite,
            optional=not last,
        )
        warnings: Sequence[str] = ()
        if background is not None:
            revision = self._committed(
                Revision(position.branch, step, of=background.submit(pending))
            )
        elif (published := pending.record()) is not None:
            revision = self._published(step, published, state)
            warnings = published.warnings
        else:
            revision = self._skipped(pending)
        # Last: a warning filter may turn a warning into an error.
        for text in (*nonfinite, *warnings, *position.carried_notices(pending.carried)):
            warn(text)
        return revision

    def _published(self, step: int, published: Published, state: Mapping[str, Any]) -> Revision:
        session = self._session
        self._committed(Revision(published.branch, step))
        result = acknowledge(session.view, session.maintenance, published, state)
        session.position.last = revision = Revision(result.branch, step, of=result)
        return revision

    def _skipped(self, pending: PendingCommit) -> Revision:
        self._session.rng_rewind.release()
        self._logged = dict(pending.metrics)
        branch = self._session.position.branch
        return Revision(branch, pending.step, of=CommitResult(branch, skipped=True))

    def _committed(self, revision: Revision) -> Revision:
        self._session.rng_rewind.release()
        self._logged.clear()
        self._session.position.committed(revision)
        return revision
