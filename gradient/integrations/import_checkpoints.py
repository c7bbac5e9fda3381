"""Importing checkpoints as commits of one branch: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradient.checkpoint import writer
from gradient.codec.mode import Mode
from gradient.errors import ConfigError, StepError
from gradient.integrations.formats import FoundCheckpoint
from gradient.integrations.imported_checkpoint import Incoming, step_of_name
from gradient.objects.oid import Oid
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.commit_builder import CommitBuilder
from gradient.repo.repository import Repository
from gradient.store.transaction import Transaction


@dataclass(slots=True)
class ImportResult:
    """The result of an import."""

    branch: str
    """The branch of the commits."""
    steps: list[int] = field(default_factory=list)
    """Their steps, in order."""
    notes: list[str] = field(default_factory=list)
    """The losses of the import, one sentence each."""


def import_checkpoints(
    repo: Repository,
    found: Sequence[FoundCheckpoint],
    *,
    branch: str,
    onto: bool = False,
    step: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> ImportResult:
    """Commit checkpoints to a branch, one after the other; the branch moves once, at the end.

    An existing branch is refused with BranchExistsError unless `onto` is set; with it, the branch
    is continued. A checkpoint's step is `step` (for a single one), or its recorded step, or the
    last number in its name. Raises StepError if steps would decrease, and a GradientError that
    names the file for a checkpoint that cannot be read. After an error the branch is as it was.
    """
    if step is not None and len(found) != 1:
        raise ConfigError(f"a step is given for one checkpoint; these are {len(found)}")
    repo.check_writable()
    # The line first: a commit that another writer makes now is not one that it has seen.
    line = BranchWriter.open(repo, branch) if onto else BranchWriter.create(repo, branch)
    line.moved_to(repo.tip(branch) if onto else None)
    return _Import(repo, found, step, progress).run(line)


class _Import:
    def __init__(
        self,
        repo: Repository,
        found: Sequence[FoundCheckpoint],
        step: int | None,
        progress: Callable[[int], object] | None,
    ) -> None:
        self._repo = repo
        self._found = found
        self._step = step
        self._progress = progress
        self._done = ImportResult("")

    def run(self, line: BranchWriter) -> ImportResult:
        """Read and write everything, then move the branch.

        IMPORTANT: all of this happens inside `publish`, under its lease. Until the branch has
        moved, the commits are unreachable, and a garbage collection would remove them.
        """
        reason = f"import of {len(self._found)} from {self._found[0].path}"
        # That steps do not go down is looked at where they are read.
        published = line.publish(line.last_step(), self._build, reason=reason)
        self._done.branch = published.branch
        self._done.notes += published.warnings
        return self._done

    def _build(self, branch: str, parent: Oid | None) -> Oid:
        self._done = ImportResult(branch)
        last = -1 if parent is None else self._repo.read_commit(parent).step
        for each in self._found:
            incoming = each.read()
            step = self._step_of(incoming)
            if step < last:
                raise StepError(
                    f"{each.path} is of step {step}, below {last}, the last one of this line; "
                    f"import it to a branch of its own, or name another step"
                )
            parent = self._commit(incoming, step, branch, parent)
            last = step
            self._done.steps.append(step)
            self._done.notes += incoming.notes
            if self._progress is not None:
                self._progress(1)
        assert parent is not None
        return parent

    def _step_of(self, incoming: Incoming) -> int:
        if self._step is not None:
            return self._step
        named = step_of_name(incoming.path)
        if incoming.step is not None or named is not None:
            return incoming.step if incoming.step is not None else int(named or 0)
        self._done.notes.append(f"{incoming.path} names no step; it is taken for step 0")
        return 0

    def _commit(self, incoming: Incoming, step: int, branch: str, parent: Oid | None) -> Oid:
        origin = {"imported": incoming.format, "source": incoming.path}
        builder = CommitBuilder(step=step, message=incoming.message, metrics=incoming.metrics)
        with self._repo.store.begin(mode=Mode.AUTO) as transaction:
            return builder.write(
                transaction,
                branch,
                parent,
                writer.write_state(transaction, incoming.state),
                hparams=_value(transaction, dict(incoming.hparams), "hparams"),
                fork=_value(transaction, origin, "origin"),
            )


def _value(transaction: Transaction, value: dict[str, Any], name: str) -> Oid | None:
    return writer.write_value(transaction, value, name=name) if value else None
