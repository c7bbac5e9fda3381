"""Every exception Gradient raises on purpose: one tree under `GradientError`.

A class exists where a caller would act differently; it carries data, not only prose. `kind` is a
stable word for scripts, `exit_code` what the command line returns for it (docs/cli.md).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import ClassVar


class GradientError(Exception):
    """Base of all errors raised on purpose."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class ConfigError(GradientError, ValueError):
    """A setting has a value that is not allowed; the message names the allowed ones."""

    kind = "config"
    exit_code = 2


class InvalidNameError(GradientError, ValueError):
    """A branch, tag, repo or state name that the store refuses (it could escape or collide)."""

    kind = "invalid-name"
    exit_code = 2

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} is not a valid name: {reason}")
        self.name = name
        self.reason = reason


class StepError(GradientError, ValueError):
    """A step that is negative, not an integer, or below the last one on its line."""

    kind = "step"
    exit_code = 2


class MalformedRevisionError(GradientError, ValueError):
    """A revision that no grammar rule accepts."""

    kind = "malformed-revision"
    exit_code = 2


class UnsupportedValueError(GradientError, TypeError):
    """A value in the state that has no encoding without pickle."""

    kind = "unsupported-value"

    def __init__(self, path: str, what: str, remedy: str) -> None:
        super().__init__(f"{path}: {what}. {remedy}")
        self.path = path
        self.what = what
        self.remedy = remedy


class NotFoundError(GradientError, LookupError):
    """Something that was asked for by name does not exist."""

    kind = "not-found"
    exit_code = 4


class ContextError(NotFoundError):
    """No workspace or repo could be resolved, or several could."""

    kind = "no-context"

    def __init__(self, message: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


class UnknownRevisionError(NotFoundError):
    """A well-formed revision that names nothing; `candidates` are the nearest that exist."""

    kind = "unknown-revision"

    def __init__(self, revision: str, reason: str, candidates: Sequence[str] = ()) -> None:
        hint = f" Nearest: {', '.join(candidates)}." if candidates else ""
        super().__init__(f"unknown revision {revision!r}: {reason}.{hint}")
        self.revision = revision
        self.reason = reason
        self.candidates = tuple(candidates)


class ForgottenError(NotFoundError):
    """A retention policy let go of a commit's state, or of a component of it.

    The commit itself is there: its place in history, message and metrics.
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
        text = f"{what} {verb} let go on {time.partition('T')[0]} by: gradient forget {policy}."
        if components == ("optimizer",):
            text += (
                f" To go on with its weights: gradient resume --reset-optimizer {revision} -- CMD, "
                f"or engine.resume({revision!r}, reset_optimizer=True)."
            )
        if nearest:
            text += f" Nearest that is whole: {', '.join(nearest)}."
        super().__init__(text)
        self.revision = revision
        self.commit = commit
        self.policy = policy
        self.time = time
        self.components = tuple(components)
        self.nearest = tuple(nearest)


class NonfiniteError(GradientError, ValueError):
    """A commit was not made, for weights are NaN or infinite: ``on_nonfinite="raise"``."""

    kind = "not-finite"

    def __init__(self, message: str, tensors: Sequence[str]) -> None:
        super().__init__(message)
        self.tensors = tuple(tensors)


class AmbiguousRevisionError(UnknownRevisionError):
    """A revision that names several commits."""

    kind = "ambiguous-revision"


class ConflictError(GradientError):
    """The request contradicts what is already there."""

    kind = "conflict"
    exit_code = 5


class BranchExistsError(ConflictError):
    """A new branch was asked for under a name that is taken."""

    kind = "branch-exists"

    def __init__(self, branch: str, taken_by: str | None = None) -> None:
        taken = taken_by or branch
        super().__init__(
            f"branch {taken!r} already exists; choose another name, or go on with it by "
            f'resume("{taken}") / GRADIENT_BRANCH={taken}'
        )
        self.branch = branch
        self.taken_by = taken


class RefConflictError(ConflictError):
    """A ref moved between reading it and moving it (another writer was faster)."""

    kind = "ref-conflict"

    def __init__(self, ref: str) -> None:
        super().__init__(f"{ref} was moved by another writer")
        self.ref = ref


class StoreChangedError(ConflictError):
    """A pack that a transaction relied on vanished while it ran; repeat the transaction."""

    kind = "store-changed"

    def __init__(self, pack: str) -> None:
        super().__init__(f"pack {pack} changed or vanished while objects in it were relied on")
        self.pack = pack


class EngineClosedError(GradientError):
    """The engine was used after `close()`, or in a forked child of the process that made it."""

    kind = "closed"


class PendingError(GradientError, TimeoutError):
    """A commit in the background did not end in the time that the caller gave it; it goes on."""

    kind = "pending"


class MisfitError(GradientError, ValueError):
    """The checkpoint does not fit the live objects. Nothing was changed."""

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
    """Stored bytes are not what their name promises. No tensor was returned."""

    kind = "integrity"
    exit_code = 3


class CorruptObjectError(IntegrityError):
    """An object failed its hash, or its frame cannot be decoded."""

    kind = "corrupt-object"

    def __init__(self, name: str, reason: str, *, pack: str | None = None) -> None:
        where = f" in pack {pack}" if pack else ""
        super().__init__(f"object {name}{where} is corrupt: {reason}")
        self.name = name
        self.reason = reason
        self.pack = pack


class CorruptPackError(IntegrityError):
    """A pack file is truncated or damaged; `commits` are those known to need it."""

    kind = "corrupt-pack"

    def __init__(self, pack: str, reason: str, *, commits: Sequence[str] = ()) -> None:
        needed = f" (needed by {', '.join(commits)})" if commits else ""
        super().__init__(f"pack {pack} is corrupt: {reason}{needed}")
        self.pack = pack
        self.reason = reason
        self.commits = tuple(commits)


class MissingObjectError(IntegrityError):
    """An object that something stored refers to is not in the store; `commits` need it."""

    kind = "missing-object"

    def __init__(self, name: str, *, commits: Sequence[str] = ()) -> None:
        needed = f" (needed by {', '.join(commits)})" if commits else ""
        super().__init__(f"object {name} is missing from the store{needed}")
        self.name = name
        self.commits = tuple(commits)


class MalformedObjectError(IntegrityError):
    """Bytes that are not a canonical object of their kind."""

    kind = "malformed-object"


class FormatVersionError(GradientError):
    """The repo was written by a newer Gradient (or carries no version we know)."""

    kind = "format-version"


class ForeignRepoError(GradientError):
    """The folder holds checkpoints of another program; Gradient will not write into it."""

    kind = "foreign-repo"
    exit_code = 5


class OwnershipError(GradientError):
    """The repo belongs to another user, who was not trusted; reading it is allowed."""

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
    """An access token was refused, could not be verified, or is not there; it is never shown."""

    kind = "auth"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
