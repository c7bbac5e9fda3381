"""The exceptions that Gradient raises: one tree under `GradientError`.

A class exists if callers would handle it differently; it carries data as well as text. `kind` is a
stable word for scripts, and `exit_code` is the exit code of the command line (docs/cli.md).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar


class GradientError(Exception):
    """The base class of all exceptions that Gradient raises."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class ConfigError(GradientError, ValueError):
    """A setting has an invalid value; the message names the valid ones."""

    kind = "config"
    exit_code = 2


class InvalidNameError(GradientError, ValueError):
    """The name of a branch, tag, repo or state is invalid: it could escape its folder."""

    kind = "invalid-name"
    exit_code = 2

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} is not a valid name: {reason}")
        self.name = name
        self.reason = reason


class StepError(GradientError, ValueError):
    """A step is negative, not an integer, or below the last step of the branch."""

    kind = "step"
    exit_code = 2


class MalformedRevisionError(GradientError, ValueError):
    """A revision does not match the grammar of revisions."""

    kind = "malformed-revision"
    exit_code = 2


class UnsupportedValueError(GradientError, TypeError):
    """A value in the state cannot be encoded without pickle."""

    kind = "unsupported-value"

    def __init__(self, path: str, what: str, remedy: str) -> None:
        super().__init__(f"{path}: {what}. {remedy}")
        self.path = path
        self.what = what
        self.remedy = remedy


class NotFoundError(GradientError, LookupError):
    """A named thing does not exist."""

    kind = "not-found"
    exit_code = 4


class ContextError(NotFoundError):
    """No workspace or repo was found, or several were."""

    kind = "no-context"

    def __init__(self, message: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class UnknownRevisionError(NotFoundError):
    """A well-formed revision names no commit; `candidates` are the nearest existing ones."""

    kind = "unknown-revision"

    def __init__(self, revision: str, reason: str, candidates: Sequence[str] = ()) -> None:
        hint = f" Nearest: {', '.join(candidates)}." if candidates else ""
        super().__init__(f"unknown revision {revision!r}: {reason}.{hint}")
        self.revision = revision
        self.reason = reason
        self.candidates = tuple(candidates)


class ForgottenError(NotFoundError):
    """Retention dropped the state of a commit, or a component of it.

    The commit itself still exists, with its place in the history, its message and its metrics.
    """

    kind = "forgotten"

    def __init__(
        self,
        revision: str,
        *,
        commit: str,
        policy: str,
        time: str,
        components: Sequence[str] = (),
        nearest: Sequence[str] = (),
    ) -> None:
        what = f"the {' and the '.join(components)} of {revision}" if components else revision
        verb = "were" if len(components) > 1 else "was"
        text = f"{what} {verb} dropped on {time.partition('T')[0]} by: gradient forget {policy}."
        if components == ("optimizer",):
            text += (
                f" To continue with its weights: "
                f"gradient resume --reset-optimizer {revision} -- CMD, or "
                f"engine.resume({revision!r}, reset_optimizer=True)."
            )
        if nearest:
            text += f" Nearest whole commit: {', '.join(nearest)}."
        super().__init__(text)
        self.revision = revision
        self.commit = commit
        self.policy = policy
        self.time = time
        self.components = tuple(components)
        self.nearest = tuple(nearest)


class NonfiniteError(GradientError, ValueError):
    """A commit was refused because weights are not finite (``on_nonfinite="raise"``)."""

    kind = "not-finite"

    def __init__(self, message: str, tensors: Sequence[str]) -> None:
        super().__init__(message)
        self.tensors = tuple(tensors)


class AmbiguousRevisionError(UnknownRevisionError):
    """A revision names several commits."""

    kind = "ambiguous-revision"


class ConflictError(GradientError):
    """The request conflicts with the current state of the repo."""

    kind = "conflict"
    exit_code = 5


class BranchExistsError(ConflictError):
    """The name of a new branch is taken."""

    kind = "branch-exists"

    def __init__(self, branch: str, taken_by: str | None = None) -> None:
        taken = taken_by or branch
        super().__init__(
            f"branch {taken!r} already exists; choose another name, or continue it with "
            f'resume("{taken}") / GRADIENT_BRANCH={taken}'
        )
        self.branch = branch
        self.taken_by = taken


class RefConflictError(ConflictError):
    """Another writer moved a ref between reading it and moving it."""

    kind = "ref-conflict"

    def __init__(self, ref: str) -> None:
        super().__init__(f"{ref} was moved by another writer")
        self.ref = ref


class StoreChangedError(ConflictError):
    """A pack that a transaction depends on was removed while it ran; repeat the transaction."""

    kind = "store-changed"

    def __init__(self, pack: str) -> None:
        super().__init__(f"pack {pack} changed or was removed while a transaction depended on it")
        self.pack = pack


class EngineClosedError(GradientError):
    """The engine was used after `close()`, or in a forked child process."""

    kind = "closed"


class PendingError(GradientError, TimeoutError):
    """A background commit did not finish within the caller's timeout; it continues."""

    kind = "pending"


class MisfitError(GradientError, ValueError):
    """The checkpoint does not match the live objects. Nothing was changed."""

    kind = "misfit"

    def __init__(
        self,
        message: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        mismatched: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.mismatched = dict(mismatched or {})


class GradientIOError(GradientError, OSError):
    """The operating system refused a file operation."""

    kind = "io"

    def __init__(self, operation: str, path: str, error: OSError) -> None:
        Exception.__init__(
            self, f"cannot {operation} {path}: {error.strerror or error} [errno {error.errno}]"
        )
        self.operation = operation
        self.path = path
        self.errno = error.errno
        self.strerror = error.strerror or (os.strerror(error.errno) if error.errno else "")

    def __str__(self) -> str:
        return str(self.args[0])


class IntegrityError(GradientError):
    """Stored bytes do not match their name. No tensor was returned."""

    kind = "integrity"
    exit_code = 3


class CorruptObjectError(IntegrityError):
    """An object does not match its hash, or its frame cannot be decoded."""

    kind = "corrupt-object"

    def __init__(self, name: str, reason: str, *, pack: str | None = None) -> None:
        where = f" in pack {pack}" if pack else ""
        super().__init__(f"object {name}{where} is corrupt: {reason}")
        self.name = name
        self.reason = reason
        self.pack = pack


class CorruptPackError(IntegrityError):
    """A pack is truncated or damaged; `commits` are known to depend on it."""

    kind = "corrupt-pack"

    def __init__(self, pack: str, reason: str, *, commits: Sequence[str] = ()) -> None:
        needed = f" (needed by {', '.join(commits)})" if commits else ""
        super().__init__(f"pack {pack} is corrupt: {reason}{needed}")
        self.pack = pack
        self.reason = reason
        self.commits = tuple(commits)


class MissingObjectError(IntegrityError):
    """A referenced object is missing from the store; `commits` depend on it."""

    kind = "missing-object"

    def __init__(self, name: str, *, commits: Sequence[str] = ()) -> None:
        needed = f" (needed by {', '.join(commits)})" if commits else ""
        super().__init__(f"object {name} is missing from the store{needed}")
        self.name = name
        self.commits = tuple(commits)


class MalformedObjectError(IntegrityError):
    """Stored bytes are not a canonical object of their kind."""

    kind = "malformed-object"


class FormatVersionError(GradientError):
    """The repo was written by a newer Gradient, or its format version is unknown."""

    kind = "format-version"


class ForeignRepoError(GradientError):
    """The folder holds checkpoints of another program; Gradient does not write into it."""

    kind = "foreign-repo"
    exit_code = 5


class OwnershipError(GradientError):
    """The repo belongs to another user who is not trusted; it can be read, but not written."""

    kind = "ownership"
    exit_code = 5

    def __init__(self, repo: str, owner: str, user: str) -> None:
        super().__init__(
            f"{repo} belongs to {owner}, and you are {user}: it can be read, but nothing is "
            f"written to it. If you trust its owner: "
            f"export GRADIENT_SAFE_DIRECTORY={shlex.quote(repo)}"
        )
        self.repo = repo
        self.owner = owner
        self.user = user


class AuthError(GradientError):
    """An access token was refused, could not be verified, or is missing; it is never shown."""

    kind = "auth"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
