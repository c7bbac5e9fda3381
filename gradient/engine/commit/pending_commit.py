"""One commit whose state is fixed: written at once, or by the background thread."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradient.checkpoint import writer
from gradient.checkpoint.draft import Draft
from gradient.engine.auto_maintenance import AutoMaintenance
from gradient.engine.commit.commit_future import CommitResult
from gradient.engine.commit.commit_writer import CommitWriter
from gradient.engine.commit.disk_full import DiskFullPolicy, SkippedError
from gradient.objects.canonical import Json
from gradient.repo import failed_commits
from gradient.repo.branch_writer import BranchWriter, Published
from gradient.view.updates import ViewUpdater

_LOG = logging.getLogger("gradient")


@dataclass(slots=True)
class PendingCommit:
    """Everything that a commit needs. Of the live objects it holds the draft's tensors at most."""

    commit_writer: CommitWriter
    """Writes it into the store."""
    disk_full: DiskFullPolicy
    """Decides what happens when the disk is full."""
    view: ViewUpdater
    """Adds it to the view."""
    maintenance: AutoMaintenance
    """Counts it, and runs maintenance now and then."""
    branch_writer: BranchWriter
    """Publishes it on its branch."""
    draft: Draft
    """The state."""
    carried: Mapping[str, Json]
    """Components that are carried forward as they are stored."""
    step: int
    """The step of the commit."""
    message: str
    """The user's message."""
    metrics: dict[str, int | float]
    """The numbers to record."""
    origin: dict[str, Any] | None
    """The source of a warm start."""
    time: str
    """The time at which `commit` was called."""
    finite: bool | None
    """True if all weights are finite; None if they were not checked."""
    optional: bool
    """True if it may be skipped; the last commit of a run may not."""

    def record(self) -> Published | None:
        """Make the commit durable; returns None if it was skipped.

        Raises what `CommitWriter.record` raises. A failed or skipped commit leaves a note in the
        repo, which `gradient status` shows.
        """
        repo, branch = self.commit_writer.repo.path, self.branch_writer.branch
        try:
            published = self.disk_full.apply(
                self._record, least=self.commit_writer.least, optional=self.optional
            )
        except SkippedError as skipped:
            _LOG.warning("%s@%d was skipped: %s", branch, self.step, skipped)
            failed_commits.note(repo, branch, self.step, "skipped", str(skipped))
            return None
        except BaseException as error:
            reason = str(error) or type(error).__name__
            failed_commits.note(repo, branch, self.step, "failed", reason)
            raise
        failed_commits.clear(repo, branch, published.branch)
        return published

    def _record(self) -> Published:
        return self.commit_writer.record(
            self.branch_writer,
            self.step,
            lambda transaction, bases: writer.write_draft(
                transaction,
                self.draft,
                carried=self.carried,
                delta_bases=bases,
                codec_cache=self.commit_writer.plans,
            ),
            message=self.message,
            metrics=self.metrics,
            origin=self.origin,
            time=self.time,
            finite=self.finite,
        )


def acknowledge(
    view: ViewUpdater,
    maintenance: AutoMaintenance,
    published: Published,
    state: Mapping[str, Any] | None,
) -> CommitResult:
    """Update the view and count a commit that is durable; returns its result."""
    path = view.add(published.commit, state)
    maintenance.committed()
    commit = view.repo.read_commit(published.commit)
    return CommitResult(published.branch, str(published.commit), commit.type, path)
