"""The return value of `commit` and `fork`: a revision as text, with the facts of its commit."""

from __future__ import annotations

from typing import Any, Self

from gradient.engine.commit.commit_future import CommitFuture, CommitResult


class Revision(str):
    """A revision such as ``"main@100"``, with the commit it names.

    It is a str: print it, store it, pass it to `resume`. For a background commit, `id`, `type`,
    `path` and `branch` wait until the commit is written, and raise its error if it failed. The text
    names the branch that was active when `commit` was called.
    """

    __slots__ = ("_future", "_result", "step")

    step: int
    """The step it was committed at."""
    _result: CommitResult
    _future: CommitFuture | None

    def __new__(
        cls, branch: str, step: int, *, of: CommitResult | CommitFuture | None = None
    ) -> Self:
        """Make the revision of a commit; `of` is None on a rank that does not commit."""
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
        """Its view file (``ckpt_*.pt``), or None."""
        return self._known().path

    @property
    def type(self) -> str:
        """``"anchor"`` or ``"delta"``."""
        return self._known().type

    @property
    def skipped(self) -> bool:
        """True if the commit was skipped: the disk was full, and ``on_full`` is ``"skip"``."""
        return self._known().skipped

    @property
    def done(self) -> bool:
        """True if the commit is durable or has failed; never waits."""
        return self._future is None or self._future.done

    def is_of(self, future: CommitFuture) -> bool:
        """Return whether this is the revision of the future's commit."""
        return self._future is future

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the commit is durable, and return self.

        Raises the commit's error, and PendingError after `timeout` seconds.
        """
        self._known(timeout)
        return self

    def settled(self) -> str:
        """Wait for the commit, and return its text with the branch that it was published on."""
        return f"{self.branch}@{self.step}"

    def _known(self, timeout: float | None = None) -> CommitResult:
        return self._result if self._future is None else self._future.wait(timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        result = self._known()
        parts = (result.id, result.type, result.path, result.skipped)
        return _rebuilt, (self.step, result.branch, *parts)


def settled(revision: Any) -> Any:
    """Return the final text of a `Revision`; return any other value as it is."""
    return revision.settled() if isinstance(revision, Revision) else revision


def _rebuilt(step: int, branch: str, *facts: Any) -> Revision:
    return Revision(branch, step, of=CommitResult(branch, *facts))
