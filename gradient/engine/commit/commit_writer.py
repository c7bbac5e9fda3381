"""Writing a state as a commit: write its objects, seal the pack, publish the commit."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from gradient.checkpoint import writer
from gradient.checkpoint.codec_cache import CodecCache
from gradient.checkpoint.delta_bases import DeltaBases
from gradient.codec.mode import Mode
from gradient.engine.commit.delta_policy import DeltaPolicy
from gradient.errors import StepError, UnsupportedValueError
from gradient.objects import timestamp
from gradient.objects.commit import MAX_STEP
from gradient.objects.oid import Oid
from gradient.repo.branch_writer import BranchWriter, Published
from gradient.repo.commit_builder import CommitBuilder
from gradient.repo.repository import Repository
from gradient.store.transaction import Transaction


def check_step(step: Any) -> int:
    """Return a step as an int; raise StepError if it is not a whole number from 0 on.

    NumPy integers and zero-dim integer tensors are accepted; bools and floats are not.
    """
    try:
        flag = isinstance(step, bool) or getattr(step, "dtype", None) == torch.bool
        number = -1 if flag else operator.index(step)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_STEP:
        raise StepError(f"a step is a whole number from 0 to {MAX_STEP}, not {step!r:.80}")
    return number


def check_message(message: Any) -> str:
    """Return a commit's message; raise UnsupportedValueError if it is not text."""
    if type(message) is str and not any("\ud800" <= letter <= "\udfff" for letter in message):
        return message
    raise UnsupportedValueError("message", f"{message!r:.80} is not text", "Pass a str.")


@dataclass(slots=True)
class CommitWriter:
    """Writes commits of one run into one repo."""

    repo: Repository
    """The repo."""
    mode: Mode
    """The compression mode."""
    hparams: Mapping[str, Any] | None
    """Recorded with each commit."""
    environment: Mapping[str, Any]
    """Recorded with each commit: versions, host, command line."""
    reason: str
    """The reason that the reflogs record."""
    delta_policy: DeltaPolicy
    """Decides which commits are anchors."""
    plans: CodecCache = field(default_factory=CodecCache)
    """Remembers how each chunk was encoded."""
    least: int | None = None
    """The stored bytes of the smallest commit of this run, without the first, which may be an
    anchor; None before the second commit."""
    _has_begun: bool = False

    def record(
        self,
        branch_writer: BranchWriter,
        step: int,
        write_tree: Callable[[Transaction, DeltaBases | None], Oid],
        *,
        sharing: bool = False,
        message: str = "",
        metrics: Mapping[str, int | float] | None = None,
        origin: Mapping[str, Any] | None = None,
        time: str | None = None,
        finite: bool | None = None,
    ) -> Published:
        """Commit the tree that `write_tree` writes; the commit is durable when this returns.

        `write_tree` gets the bases for deltas, or None if the commit is to be an anchor. With
        `sharing`, the commit reuses the chunks of its source, including deltas. `origin` is the
        source of a fork or warm start, `time` the time of the call (by default now), and `finite`
        is True if all weights are finite.

        Raises StepError, BranchExistsError, GradientIOError, and UnsupportedValueError for values
        without an encoding. After an error nothing has changed.
        """
        builder = CommitBuilder(
            step=step,
            time=time or timestamp.now(),
            message=check_message(message),
            metrics=metrics or {},
            finite=finite,
        )

        # Called again if another writer was faster or a pack was collected; most chunks are
        # known by then.
        def write(branch: str, parent: Oid | None) -> Oid:
            bases = None if sharing else self.delta_policy.bases(parent)
            plain = bases is None and not sharing
            with self.repo.store.begin(mode=self.mode, whole=plain) as transaction:
                tree = write_tree(transaction, bases)
                anchor = self.delta_policy.anchor_of(parent) if transaction.has_deltas else None
                oid = builder.write(
                    transaction,
                    branch,
                    parent,
                    tree,
                    anchor=anchor,
                    environment=_value(transaction, self.environment, "environment"),
                    hparams=_value(transaction, self.hparams, "hparams"),
                    fork=_value(transaction, origin, "fork"),
                )
            if self._has_begun:
                known = transaction.coded_bytes if self.least is None else self.least
                self.least = min(known, transaction.coded_bytes)
            self._has_begun = True
            if not sharing:
                self.delta_policy.committed(
                    oid, anchor=anchor, coded=transaction.coded_bytes, plain=transaction.whole_bytes
                )
            return oid

        return branch_writer.publish(step, write, reason=self.reason)


def _value(transaction: Transaction, value: Mapping[str, Any] | None, name: str) -> Oid | None:
    return None if value is None else writer.write_value(transaction, dict(value), name=name)
