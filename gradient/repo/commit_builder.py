"""The construction of a commit object: every writer of commits goes through `CommitBuilder`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradient.objects import timestamp
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.store.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitBuilder:
    """The facts that a commit records about a run.

    They are known before the commit is written. The branch, the parents and the tree are arguments
    of `write`, because a lost race changes them.
    """

    step: int
    """The training step."""
    time: str = field(default_factory=timestamp.now)
    """The time of the commit, in UTC; by default now."""
    message: str = ""
    """The user's message."""
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    """The metrics recorded with the commit."""
    finite: bool | None = None
    """True if all weights are finite; None if they were not checked.

    A commit that takes over another commit's weights passes that commit's value on: it decides the
    "(not finite)" mark and ``@last-finite``.
    """

    def write(
        self,
        transaction: Transaction,
        branch: str,
        parent: Oid | None,
        tree: Oid,
        *,
        others: Sequence[Oid] = (),
        anchor: Oid | None = None,
        environment: Oid | None = None,
        hparams: Oid | None = None,
        fork: Oid | None = None,
    ) -> Oid:
        """Write the commit, seal the transaction and return the commit's id.

        `others` are the parents of a merge after the first. `anchor` is None for an anchor commit.
        `environment`, `hparams` and `fork` are value trees in the same transaction or store.
        """
        commit = CommitRecord(
            tree=tree,
            parents=(*(() if parent is None else (parent,)), *others),
            anchor=anchor,
            step=self.step,
            branch=branch,
            time=self.time,
            message=self.message,
            metrics=dict(self.metrics),
            environment=environment,
            hparams=hparams,
            fork=fork,
            finite=self.finite,
        )
        oid = transaction.put(Kind.COMMIT, commit.to_bytes())
        transaction.seal()
        return oid
