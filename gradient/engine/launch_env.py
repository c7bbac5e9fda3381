"""What the command line hands to the training process it launches: environment variables.

The one place that knows their names, for both sides: `gradient resume REF -- CMD` writes them,
`GradientEngine.attach` reads them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from gradient.errors import ConfigError

WORKSPACE = "GRADIENT_WORKSPACE"
REPO = "GRADIENT_REPO"
BRANCH = "GRADIENT_BRANCH"
RESUME_REF = "GRADIENT_RESUME_REF"
RESET_OPTIMIZER = "GRADIENT_RESET_OPTIMIZER"
AUTOCOMMIT = "GRADIENT_AUTOCOMMIT"
BACKGROUND = "GRADIENT_BACKGROUND"
FORK = "GRADIENT_FORK"
HANDOFF_ID = "GRADIENT_HANDOFF_ID"

OWNED = (WORKSPACE, REPO, BRANCH, RESUME_REF, RESET_OPTIMIZER, FORK, HANDOFF_ID)
"""What a launch replaces; everything else of the user's environment stays as it is."""

_consumed: set[str] = set()


@dataclass(frozen=True, slots=True)
class ForkOptions:
    """What a fork changes beside the branch."""

    reset_optimizer: bool = False
    """Start with empty optimizer state."""
    reset_scheduler: bool = False
    """Start the schedule again, with the learning rates noted at attach."""
    reset_rng_seed: int | None = None
    """Reseed every generator."""
    set: Mapping[str, int | float] | None = None
    """Param-group options to replace, such as ``{"lr": 1e-2}``."""
    scale_lr: float | None = None
    """Factor on every learning rate."""
    partial: bool = False
    """Load what fits (``strict=False``)."""
    message: str = ""
    """The fork commit's message."""

    def __post_init__(self) -> None:
        seed, factor = self.reset_rng_seed, self.scale_lr
        if self.set is not None and not isinstance(self.set, Mapping):
            raise ConfigError(f'set={self.set!r:.80}: write {{"lr": 1e-2}}')
        if seed is not None and (type(seed) is not int or not 0 <= seed < 1 << 63):
            raise ConfigError(f"reset_rng_seed={seed!r}: a seed is a whole number from 0 to 2^63-1")
        if factor is not None:
            number = type(factor) in (int, float)
            if not number or not math.isfinite(factor) or factor <= 0:
                raise ConfigError(f"scale_lr={factor!r}: a factor is a finite number above 0")

    @property
    def record(self) -> dict[str, Any]:
        """What the commit says about the fork: the options that are not at their default."""
        # By identity: a seed of 0 equals False.
        values = {k: v for k, v in asdict(self).items() if v is not None and v is not False}
        return {k: v for k, v in values.items() if v not in ("", {})}

    def to_json(self) -> str:
        """Encode for `GRADIENT_FORK`."""
        return json.dumps(self.record)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode; raises ConfigError for anything `to_json` would not write."""
        try:
            body = json.loads(text)
            unknown = set(body) - {item.name for item in fields(cls)}
        except (ValueError, TypeError):
            raise ConfigError(f"{FORK} is not a JSON object: {text!r:.80}") from None
        if unknown or not isinstance(body, dict):
            raise ConfigError(f"{FORK} has unknown options: {', '.join(sorted(unknown))}")
        return cls(**body)


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
