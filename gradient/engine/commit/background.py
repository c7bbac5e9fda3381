"""Commits behind the training loop.

Goals: the loop waits for a copy of the state at most, the copies are bounded in number, and no
failure and no commit is ever lost without a word.

Rules
1. A commit is written from memory of its own, by one thread, in the order of the calls.
2. At most `most` commits are unfinished; before the next is copied, one of them must end.
3. The thread is no daemon, and ends when there is nothing to write: so the interpreter waits for
   it at its end, and there is nothing to be shut down. In a forked child it does not exist.
4. A failed commit is nobody's parent: the line moves with a commit that was published alone.
   The numbers that it was to record go into the next one.
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
from gradient.engine.commit.pending_commit import PendingCommit, acknowledged
from gradient.engine.shutdown import exit_hook
from gradient.engine.shutdown.progress_line import INTERVAL, ProgressLine
from gradient.engine.warning import warn
from gradient.errors import PendingError

_LOG = logging.getLogger("gradient")
_Task: TypeAlias = "tuple[PendingCommit, Snapshot, CommitFuture]"


class FailureSink(Protocol):
    """What a run stands at, as far as failures change it."""

    def failed(self, outcome: CommitFuture, *, idle: bool) -> None:
        """Take back a commit that was not made; `idle`: no later one is pending."""


class Background:
    """Writes the commits of one run. Used by one thread, beside its own."""

    def __init__(self, snapshots: Snapshots, most: int) -> None:
        self.snapshots = snapshots
        """Where the copies of the state come from."""
        self._most = most
        self._changed = threading.Condition()
        self._tasks: deque[_Task] = deque()
        self._writing = False
        self._writer: threading.Thread | None = None  # until it has found nothing more to do
        self._failures: list[CommitFuture] = []
        self.unrecorded: dict[str, int | float] = {}
        """The numbers of commits that were not made since the last one that was."""
        self._notices: deque[str] = deque()
        self._last: list[Callable[[], None]] = []
        exit_hook.wait_for(self)

    @property
    def unfinished(self) -> int:
        """How many commits have not ended."""
        # Not a number of its own: a Ctrl-C may come between any two steps of the caller.
        return len(self._tasks) + self._writing

    @property
    def is_idle(self) -> bool:
        """Whether every commit has ended."""
        return not self.unfinished

    def room(self) -> None:
        """Return when another commit may be submitted."""
        self._see_to_it()
        with self._changed:
            while self.unfinished >= self._most:
                self._changed.wait()

    def submit(self, job: PendingCommit) -> CommitFuture:
        """Copy what a job would read of live objects, and write it when its turn comes.

        There is `room`. Raises MemoryError where there is not.
        """
        snapshot = self.snapshots.take(job.draft)
        outcome = CommitFuture(f"{job.line.branch}@{job.step}", job.origin)
        with self._changed:
            self._tasks.append((job, snapshot, outcome))
        self._see_to_it()
        return outcome

    def flush(self, timeout: float | None = None) -> None:
        """Return when every commit has ended; raises PendingError after `timeout` seconds."""
        self._see_to_it()
        with self._changed:
            self._log_unfinished()
            if not self._changed.wait_for(lambda: self.is_idle, timeout):
                raise PendingError(
                    f"{self.unfinished} commits are not written yet after {timeout} seconds"
                )

    def finish(self) -> None:
        """Return when every commit has ended; a terminal shows what there is to wait for."""
        self._see_to_it()
        with self._changed, ProgressLine() as line:
            self._log_unfinished()
            while not self._changed.wait_for(lambda: self.is_idle, INTERVAL):
                line.show(self.unfinished)

    def _log_unfinished(self) -> None:
        if self.unfinished:
            _LOG.info("waiting for %d commits to be written", self.unfinished)

    def tell(self, at: FailureSink, *, quietly: bool = False) -> None:
        """Say what happened since the last call: warn, take back failures, and raise them.

        Of several failures the first is raised, with notes about the others; one that a handle
        has raised already is not raised again. `quietly` leaves it at what is in the log: for a
        run that ends, and whose last commit is what counts.
        """
        while self._notices:
            warn(self._notices.popleft())
        with self._changed:
            failures, self._failures = self._failures, []
        for outcome in failures:
            at.failed(outcome, idle=self.is_idle)
        untold = [outcome.tell() for outcome in failures if not outcome.told]
        if untold and not quietly:
            for other in untold[1:]:
                untold[0].add_note(f"after it: {other}")
            raise untold[0]

    def end(self, last: Callable[[], None]) -> None:
        """Do something after the last commit; never waits."""
        with self._changed:
            if self.unfinished:
                self._last.append(last)
                return
        last()

    def _see_to_it(self) -> None:
        """Start the thread if there is something to write and nobody who does.

        A Ctrl-C may have come between the two: so whoever waits looks, too.
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
                    pass  # the interpreter is so near its end that it starts no thread
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
                del task  # its memory is back with the others
                with self._changed:
                    self._writing = False
                    self._changed.notify_all()

    def _next(self) -> _Task | None:
        while True:
            with self._changed:
                if self._tasks:
                    self._writing = True
                    return self._tasks.popleft()
                last, self._last = self._last, []
                if not last:
                    self._writer = None
                    return None
            for each in last:
                each()

    def _write(self, job: PendingCommit, snapshot: Snapshot, outcome: CommitFuture) -> None:
        if exit_hook.has_begun():
            _say(
                logging.INFO,
                "the script has ended; writing %s before the process does",
                outcome.revision,
            )
        try:
            facts = self._written(job, snapshot)
            if facts.skipped:
                # The run does not stand at it, and nobody is to be told.
                outcome.told = True
                with self._changed:
                    self._failures.append(outcome)
            outcome.succeed(facts)
        except BaseException as error:  # noqa: BLE001 - raised where somebody can act on it
            _say(logging.ERROR, "%s was not written: %s", outcome.revision, error)
            _let_go(error)
            outcome.fail(error)
            with self._changed:
                self._failures.append(outcome)

    def _written(self, job: PendingCommit, snapshot: Snapshot) -> CommitResult:
        job.metrics = self.unrecorded = self.unrecorded | job.metrics
        try:
            published = job.record()
            if published is None:
                self.snapshots.forget_stored()
                return CommitResult(job.line.branch, skipped=True)
            self.snapshots.remember_stored(snapshot)
        except BaseException:
            self.snapshots.forget_stored()
            raise
        finally:
            self.snapshots.release(snapshot)
        self.unrecorded = {}
        self._notices.extend(published.warnings)
        return acknowledged(job.view, job.upkeep, published, None)


def _say(level: int, text: str, *arguments: object) -> None:
    """Log; the handlers are the script's, and what one of them raises must not end the thread."""
    with contextlib.suppress(Exception):
        _LOG.log(level, text, *arguments)


def _let_go(error: BaseException) -> None:
    """Take the variables out of an error's frames: they would keep a whole snapshot alive."""
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
