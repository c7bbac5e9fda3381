"""Background commits: written by a thread while the training loop continues.

Goals: the loop waits for a copy of the state at most, the number of copies is bounded, and every
failed or lost commit is reported.

Rules
1. One thread writes the commits, each from a copy of the state, in the order of the calls.
2. At most `max_pending` commits are unfinished. Before the next one is copied, one must end.
3. The thread is not a daemon, and it ends when nothing is left to write. The interpreter therefore
   waits for it at exit, and no shutdown call is needed. A forked child does not have the thread.
4. A failed commit never becomes a parent, because a branch moves only to a published commit. The
   metrics of a failed commit go into the next one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeAlias

from gradient.checkpoint.snapshots import Snapshot, Snapshots
from gradient.engine.commit.commit_future import CommitFuture, CommitResult
from gradient.engine.commit.pending_commit import PendingCommit, acknowledge
from gradient.engine.shutdown import exit_hook
from gradient.engine.shutdown.progress_line import INTERVAL, ProgressLine
from gradient.engine.warning import warn
from gradient.errors import PendingError

_LOG = logging.getLogger("gradient")
_Task: TypeAlias = "tuple[PendingCommit, Snapshot, CommitFuture]"


class FailureSink(Protocol):
    """The position of a run, which failed commits move back."""

    def failed(self, future: CommitFuture, *, idle: bool) -> None:
        """Undo a commit that failed; `idle` means that no later one is pending."""


class Background:
    """Writes the commits of one run. One thread submits, another one writes."""

    def __init__(self, snapshots: Snapshots, max_pending: int) -> None:
        self.snapshots = snapshots
        """Copies the state."""
        self._max_pending = max_pending
        self._changed = threading.Condition()
        self._tasks: deque[_Task] = deque()
        self._writing = False
        self._writer: threading.Thread | None = None  # None once it has found the queue empty
        self._failures: list[CommitFuture] = []
        self.unrecorded: dict[str, int | float] = {}
        """The metrics of the commits that failed since the last one that succeeded."""
        self._notices: deque[str] = deque()
        self._callbacks: list[Callable[[], None]] = []
        exit_hook.wait_for(self)

    @property
    def unfinished(self) -> int:
        """The number of commits that have not ended."""
        # Derived, not counted: a Ctrl-C may come between any two steps of the caller.
        return len(self._tasks) + self._writing

    @property
    def is_idle(self) -> bool:
        """True if every commit has ended."""
        return not self.unfinished

    def wait_for_slot(self) -> None:
        """Wait until another commit may be submitted."""
        self._ensure_writer()
        with self._changed:
            while self.unfinished >= self._max_pending:
                self._changed.wait()

    def submit(self, pending: PendingCommit) -> CommitFuture:
        """Copy the state of a commit and queue it; call `wait_for_slot` first.

        Raises MemoryError if the copy does not fit into memory.
        """
        snapshot = self.snapshots.take(pending.draft)
        future = CommitFuture(f"{pending.branch_writer.branch}@{pending.step}", pending.origin)
        with self._changed:
            self._tasks.append((pending, snapshot, future))
        self._ensure_writer()
        return future

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every commit has ended; raise PendingError after `timeout` seconds."""
        self._ensure_writer()
        with self._changed:
            self._log_unfinished()
            if not self._changed.wait_for(lambda: self.is_idle, timeout):
                raise PendingError(
                    f"{self.unfinished} commits are not written yet after {timeout} seconds"
                )

    def finish(self) -> None:
        """Wait until every commit has ended, and show progress on a terminal."""
        self._ensure_writer()
        with self._changed, ProgressLine() as line:
            self._log_unfinished()
            while not self._changed.wait_for(lambda: self.is_idle, INTERVAL):
                line.show(self.unfinished)

    def _log_unfinished(self) -> None:
        if self.unfinished:
            _LOG.info("waiting for %d commits to be written", self.unfinished)

    def report(self, position: FailureSink, *, quietly: bool = False) -> None:
        """Emit the warnings since the last call, undo the failed commits, and raise their errors.

        Raises the first failure, with a note for each other one. A failure that a revision handle
        has raised already is not raised again. With `quietly`, failures are only logged: the run
        ends, and its last commit must still be made.
        """
        while self._notices:
            warn(self._notices.popleft())
        with self._changed:
            failures, self._failures = self._failures, []
        for future in failures:
            position.failed(future, idle=self.is_idle)
        errors = [future.take_error() for future in failures if not future.reported]
        if errors and not quietly:
            for other in errors[1:]:
                errors[0].add_note(f"after it: {other}")
            raise errors[0]

    def end(self, callback: Callable[[], None]) -> None:
        """Call a function after the last commit; never waits."""
        with self._changed:
            if self.unfinished:
                self._callbacks.append(callback)
                return
        callback()

    def _ensure_writer(self) -> None:
        """Start the thread if commits are queued and no thread writes them.

        Every waiting method calls this, because a Ctrl-C may come between queueing and starting.
        """
        with self._changed:
            if not self._tasks or (self._writer is not None and self._writer.is_alive()):
                return
            if exit_hook.waits_for_threads():
                self._writer = threading.Thread(
                    target=self._work, name="gradient-commits", daemon=False
                )
                try:
                    self._writer.start()
                    return
                except RuntimeError:
                    pass  # the interpreter is shutting down and starts no thread
            self._writer = threading.current_thread()
        try:
            self._work()
        except BaseException:
            self._writer = None
            raise

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                self._write(*task)
            finally:
                del task  # its buffers are free again
                with self._changed:
                    self._writing = False
                    self._changed.notify_all()

    def _next(self) -> _Task | None:
        while True:
            with self._changed:
                if self._tasks:
                    self._writing = True
                    return self._tasks.popleft()
                callbacks, self._callbacks = self._callbacks, []
                if not callbacks:
                    self._writer = None
                    return None
            for each in callbacks:
                each()

    def _write(self, pending: PendingCommit, snapshot: Snapshot, future: CommitFuture) -> None:
        if exit_hook.has_begun():
            _log_safely(
                logging.INFO,
                "the script has ended; writing %s before the process does",
                future.revision,
            )
        try:
            result = self._record(pending, snapshot)
            if result.skipped:
                # The run's position moves back, but a skipped commit raises no error.
                future.reported = True
                with self._changed:
                    self._failures.append(future)
            future.succeed(result)
        except BaseException as error:  # noqa: BLE001 - `report` or the handle raises it
            _log_safely(logging.ERROR, "%s was not written: %s", future.revision, error)
            _clear_frames(error)
            future.fail(error)
            with self._changed:
                self._failures.append(future)

    def _record(self, pending: PendingCommit, snapshot: Snapshot) -> CommitResult:
        pending.metrics = self.unrecorded = self.unrecorded | pending.metrics
        try:
            published = pending.record()
            if published is None:
                self.snapshots.forget_stored()
                return CommitResult(pending.branch_writer.branch, skipped=True)
            self.snapshots.remember_stored(snapshot)
        except BaseException:
            self.snapshots.forget_stored()
            raise
        finally:
            self.snapshots.release(snapshot)
        self.unrecorded = {}
        self._notices.extend(published.warnings)
        return acknowledge(pending.view, pending.maintenance, published, None)


def _log_safely(level: int, text: str, *arguments: object) -> None:
    """Log; an exception from one of the script's log handlers must not end the thread."""
    with contextlib.suppress(Exception):
        _LOG.log(level, text, *arguments)


def _clear_frames(error: BaseException) -> None:
    """Clear the local variables in an error's frames, which would keep a snapshot alive."""
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
