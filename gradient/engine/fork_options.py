"""The options of a fork: their meaning, their check, and their form in the commit's record.

To add an option: a field here, a parameter of `GradientEngine.fork`, an option of `gradient fork`
(`cli/fork.py`), and its effect in `fork.py`. It has the same name in all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from gradient.errors import ConfigError

FORK: Final = "GRADIENT_FORK"
"""The environment variable that hands the options to a launched command."""


@dataclass(frozen=True, slots=True)
class ForkOptions:
    """The differences between a fork and its source."""

    reset_optimizer: bool = False
    """Start with empty optimizer state."""
    reset_scheduler: bool = False
    """Restart the schedule, with the learning rates noted at attach."""
    reset_rng_seed: int | None = None
    """Reseed every generator with this seed."""
    set: Mapping[str, int | float] | None = None
    """Param-group options to replace, such as ``{"lr": 1e-2}``."""
    scale_lr: float | None = None
    """Factor on every learning rate."""
    strict: bool = True
    """Refuse a source that does not fit; if False, load the parameters that match."""
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
        """The options that are not at their default, as the fork's commit records them."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if values["set"] is not None:
            values["set"] = dict(values["set"]) or None
        # By type as well: a seed of 0 equals False.
        default = {item.name: item.default for item in fields(self)}
        return {
            name: value
            for name, value in values.items()
            if value != default[name] or type(value) is not type(default[name])
        }

    def to_json(self) -> str:
        """Encode for `GRADIENT_FORK`."""
        return json.dumps(self.record)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Decode; raises ConfigError for anything that `to_json` would not write.

        The former spelling of ``"strict": false``, ``"partial": true``, is accepted.
        """
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ConfigError(f"{FORK} is not a JSON object: {text!r:.80}")
        unknown = set(body) - {item.name for item in fields(cls)} - {"partial"}
        if unknown:
            raise ConfigError(f"{FORK} has unknown options: {', '.join(sorted(unknown))}")
        if "partial" in body:
            body["strict"] = not body.pop("partial")
        return cls(**body)
