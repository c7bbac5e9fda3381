"""One commit, from the moment its state is fixed: written now, or behind the training loop."""

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
    """Everything that a commit needs; of the run's objects, at most the tensors of its draft."""

    recorder: CommitWriter
    """Writes it."""
    room: DiskFullPolicy
    """Decides what becomes of it on a full disk."""
    view: ViewUpdater
    """Shows it."""
    upkeep: AutoMaintenance
    """Looks after the repo, now and then."""
    line: BranchWriter
    """Where it goes."""
    draft: Draft
    """The state."""
    carried: Mapping[str, Json]
    """Components that are taken over as they are stored."""
    step: int
    """The step it was called for."""
    message: str
    """What the user says about it."""
    metrics: dict[str, int | float]
    """Its numbers."""
    origin: dict[str, Any] | None
    """What a warm start took from where."""
    time: str
    """When `commit` was called."""
    finite: bool | None
    """Whether all weights are; None where nobody looked."""
    optional: bool
    """Whether it may be skipped; not where the run ends with it."""

    def record(self) -> Published | None:
        """Make it durable; None where it was skipped.

        Raises what `Recorder.record` raises. Of what was not made, it leaves a note.
        """
        repo, branch = self.recorder.repo.path, self.line.branch
        try:
            published = self.room.fit(
                self._record, least=self.recorder.least, optional=self.optional
            )
        except SkippedError as skipped:
            _LOG.warning("%s@%d was skipped: %s", branch, self.step, skipped)
            failed_commits.note(repo, branch, self.step, "skipped", str(skipped))
            return None
        except BaseException as error:
            failed_commits.note(
                repo, branch, self.step, "failed", str(error) or type(error).__name__
            )
            raise
        failed_commits.clear(repo, branch, published.branch)
        return published

    def _record(self) -> Published:
        return self.recorder.record(
            self.line,
            self.step,
            lambda transaction, bases: writer.write_draft(
                transaction,
                self.draft,
                carried=self.carried,
                delta_bases=bases,
                codec_cache=self.recorder.plans,
            ),
            message=self.message,
            metrics=self.metrics,
            origin=self.origin,
            time=self.time,
            finite=self.finite,
        )


def acknowledged(
    view: ViewUpdater,
    upkeep: AutoMaintenance,
    published: Published,
    state: Mapping[str, Any] | None,
) -> CommitResult:
    """Bring the view up to date with a commit that is durable; returns what is known of it."""
    path = view.add(published.commit, state)
    upkeep.committed()
    commit = view.repo.read_commit(published.commit)
    return CommitResult(published.branch, str(published.commit), commit.type, path)
