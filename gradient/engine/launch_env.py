"""The environment variables that hand a launch to the training process.

Both sides use this module: `gradient resume REF -- CMD` writes the variables, and
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
"""The variables that a launch replaces; it keeps the rest of the user's environment."""

_consumed: set[str] = set()


@dataclass(frozen=True, slots=True)
class LaunchEnv:
    """The launch of a run, as its environment variables describe it."""

    workspace: str | None = None
    repo: str | None = None
    branch: str | None = None
    resume: str | None = None
    autocommit: int | None = None
    fork: ForkOptions | None = None
    """The options, if `resume` is to be forked into `branch`."""
    id: str | None = None
    """The id of the launch: a restart under the same id continues instead of starting over."""
    background: bool | None = None
    """True for background commits; None leaves it to the config."""
    reset_optimizer: bool = False
    """True to resume `resume` with empty optimizer state."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables; ignore a launch that an earlier attach of this process consumed.

        Raises ConfigError for an invalid value.
        """
        launch_id = environ.get(HANDOFF_ID) or None
        consumed = launch_id is not None and launch_id in _consumed
        fork = environ.get(FORK) or None
        return cls(
            workspace=environ.get(WORKSPACE) or None,
            repo=environ.get(REPO) or None,
            branch=environ.get(BRANCH) or None,
            resume=None if consumed else environ.get(RESUME_REF) or None,
            autocommit=_interval(environ.get(AUTOCOMMIT)),
            background=_flag(BACKGROUND, environ),
            reset_optimizer=not consumed and bool(_flag(RESET_OPTIMIZER, environ)),
            fork=ForkOptions.parse(fork) if fork and not consumed else None,
            id=None if consumed else launch_id,
        )

    @property
    def reason(self) -> str:
        """The reason that the reflogs record for the moves of this run."""
        return "commit" if self.id is None else f"commit of launch {self.id}"

    def consume(self) -> None:
        """Note that this process has consumed the launch."""
        if self.id is not None:
            _consumed.add(self.id)

    def to_environ(self) -> dict[str, str]:
        """Return the variables for the environment of a child process."""
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
    """Return an autocommit interval in steps; raise ConfigError if it is not a positive int."""
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
