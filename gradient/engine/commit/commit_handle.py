"""What `commit` and `fork` return: the revision as text that knows its commit."""

from __future__ import annotations

from typing import Any, Self

from gradient.engine.commit.commit_future import CommitFuture, CommitResult


class Revision(str):
    """A revision such as ``"main@100"``, with the commit it names.

    A str in every respect: it can be printed, stored and given to `resume`. Of a commit that is
    written in the background, `id`, `type`, `path` and `branch` wait until they are known, and
    raise what it failed with. Its text names the branch that it was meant for.
    """

    __slots__ = ("_future", "_result", "step")

    step: int
    """The step it was committed at."""
    _result: CommitResult
    _future: CommitFuture | None

    def __new__(
        cls, branch: str, step: int, *, of: CommitResult | CommitFuture | None = None
    ) -> Self:
        """Spell the revision of a commit; without facts, of one that another rank makes."""
        self = super().__new__(cls, f"{branch}@{step}")
        self.step = step
        self._result = of if isinstance(of, CommitResult) else CommitResult(branch)
        self._future = of if isinstance(of, CommitFuture) else None
        return self

    @property
    def id(self) -> str:
        """The commit's id: 64 hex digits; empty on a rank that does not commit, or if `skipped`."""
        return self._known().id

    @property
    def branch(self) -> str:
        """The branch it was committed on."""
        return self._known().branch

    @property
    def path(self) -> str | None:
        """Its view file (``ckpt_*.pt``), where there is one."""
        return self._known().path

    @property
    def type(self) -> str:
        """``"anchor"`` or ``"delta"``."""
        return self._known().type

    @property
    def skipped(self) -> bool:
        """Whether there is no such commit: the disk was full, and ``on_full`` is ``"skip"``."""
        return self._known().skipped

    @property
    def done(self) -> bool:
        """Whether the commit is durable, or has failed; never waits."""
        return self._future is None or self._future.done

    def is_of(self, future: CommitFuture) -> bool:
        """Return whether this is the revision of the future's commit."""
        return self._future is future

    def wait(self, timeout: float | None = None) -> Self:
        """Return when the commit is durable.

        Raises what it failed with, and PendingError if `timeout` seconds did not suffice.
        """
        self._known(timeout)
        return self

    def settled(self) -> str:
        """Return the text with the branch that the commit ended on; waits for that."""
        return f"{self.branch}@{self.step}"

    def _known(self, timeout: float | None = None) -> CommitResult:
        return self._result if self._future is None else self._future.wait(timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        result = self._known()
        parts = (result.id, result.type, result.path, result.skipped)
        return _rebuilt, (self.step, result.branch, *parts)


def settled(revision: Any) -> Any:
    """Turn a revision that a commit returned into the text that finds it; others stay."""
    return revision.settled() if isinstance(revision, Revision) else revision


def _rebuilt(step: int, branch: str, *facts: Any) -> Revision:
    return Revision(branch, step, of=CommitResult(branch, *facts))
