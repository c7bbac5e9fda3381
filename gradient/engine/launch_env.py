"""What the command line hands to the training process it launches: environment variables.

The one place that knows their names, for both sides: `gradient resume REF -- CMD` writes them,
`GradientEngine.attach` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from gradient.engine.fork_options import FORK, ForkOptions
from gradient.errors import ConfigError

WORKSPACE = "GRADIENT_WORKSPACE"
REPO = "GRADIENT_REPO"
BRANCH = "GRADIENT_BRANCH"
RESUME_REF = "GRADIENT_RESUME_REF"
RESET_OPTIMIZER = "GRADIENT_RESET_OPTIMIZER"
AUTOCOMMIT = "GRADIENT_AUTOCOMMIT"
BACKGROUND = "GRADIENT_BACKGROUND"
HANDOFF_ID = "GRADIENT_HANDOFF_ID"

OWNED = (WORKSPACE, REPO, BRANCH, RESUME_REF, RESET_OPTIMIZER, FORK, HANDOFF_ID)
"""What a launch replaces; everything else of the user's environment stays as it is."""

_consumed: set[str] = set()


@dataclass(frozen=True, slots=True)
class Handoff:
    """What the environment says about the run that is about to attach."""

    workspace: str | None = None
    repo: str | None = None
    branch: str | None = None
    resume: str | None = None
    autocommit: int | None = None
    fork: ForkOptions | None = None
    """Present where `resume` is to be forked into `branch`."""
    id: str | None = None
    """Names one launch: what was begun under it is continued, not repeated."""
    background: bool | None = None
    """Whether commits are written behind the loop; None: as the config says."""
    reset_optimizer: bool = False
    """Whether the optimizer starts with empty state where `resume` is resumed."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; a launch that an earlier attach of this process took is not repeated.

        Raises ConfigError for a value that does not parse.
        """
        handoff_id = environ.get(HANDOFF_ID) or None
        taken = handoff_id is not None and handoff_id in _consumed
        fork = environ.get(FORK) or None
        return cls(
            workspace=environ.get(WORKSPACE) or None,
            repo=environ.get(REPO) or None,
            branch=environ.get(BRANCH) or None,
            resume=None if taken else environ.get(RESUME_REF) or None,
            autocommit=_interval(environ.get(AUTOCOMMIT)),
            background=_flag(BACKGROUND, environ),
            reset_optimizer=not taken and bool(_flag(RESET_OPTIMIZER, environ)),
            fork=ForkOptions.parse(fork) if fork and not taken else None,
            id=None if taken else handoff_id,
        )

    @property
    def reason(self) -> str:
        """What the refs' logs say about the moves of the run that this is handed to."""
        return "commit" if self.id is None else f"commit of launch {self.id}"

    def consume(self) -> None:
        """Note that this process has taken the handoff."""
        if self.id is not None:
            _consumed.add(self.id)

    def to_environ(self) -> dict[str, str]:
        """Return the variables that say this, for the environment of a child."""
        values = {
            WORKSPACE: self.workspace,
            REPO: self.repo,
            BRANCH: self.branch,
            RESUME_REF: self.resume,
            FORK: self.fork.to_json() if self.fork is not None else None,
            HANDOFF_ID: self.id,
            AUTOCOMMIT: str(self.autocommit) if self.autocommit is not None else None,
            BACKGROUND: str(int(self.background)) if self.background is not None else None,
            RESET_OPTIMIZER: "1" if self.reset_optimizer else None,
        }
        return {name: value for name, value in values.items() if value is not None}


def check_interval(every: object) -> int:
    """Return an autocommit interval, a positive number of steps; raises ConfigError."""
    if type(every) is not int or every < 1:
        raise ConfigError(f"autocommit: every={every!r} is not a positive whole number of steps")
    return every


def _interval(text: str | None) -> int | None:
    if not text:
        return None
    try:
        return check_interval(int(text))
    except ValueError:
        raise ConfigError(
            f"{AUTOCOMMIT}={text!r} is not a positive whole number of steps"
        ) from None


def _flag(name: str, environ: Mapping[str, str]) -> bool | None:
    text = environ.get(name)
    if text not in (None, "", "0", "1"):
        raise ConfigError(f"{name}={text!r} is not 0 or 1")
    return None if not text else text == "1"
