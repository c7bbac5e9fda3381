"""The rules of retention, as a user writes them; `maintenance.retention.plan` applies them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gradient.errors import ConfigError
from gradient.repo.revision_grammar import split_metric

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN: Final = re.compile(r"([0-9]{1,9})([smhdw])|0")
_COUNT: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Keep:
    """The commits that stay whole; the states of all others are dropped. Each rule keeps more.

    Some commits always stay: the tips of branches, tagged commits, the commits where branches
    part, and the newest commit of each branch that is known to be finite: its weights were checked
    or it has metrics, and neither contains NaN or infinite values.
    """

    last: int | None = None
    """The number of newest commits to keep on each branch."""
    every: int | None = None
    """Keep the commits whose step is a multiple of this."""
    best: str | Sequence[str] = ()
    """The best commits of each branch by a metric: ``"val_loss:3"`` keeps the three lowest, and
    ``"acc:max:3"`` the three highest."""
    tagged: bool = True
    """Tagged commits; always True, because they are always kept."""
    aside: str | None = None
    """Keep the commits of a branch that was set aside for this long: ``"14d"``."""
    drop: str | Sequence[str] = ()
    """Drop only these components: ``"optimizer"``."""
    grace: str = "0"
    """The time that dropped data stays in the trash if a run applies the rules by itself."""

    def __post_init__(self) -> None:
        _whole("last", self.last, 0)
        _whole("every", self.every, 1)
        if self.tagged is not True:
            raise ConfigError("Keep(tagged=…): tagged commits are always kept")
        for name in ("best", "drop"):
            value = getattr(self, name)
            names = (value,) if isinstance(value, str) else tuple(value)
            if any(not isinstance(each, str) or not each for each in names):
                raise ConfigError(f"Keep({name}={value!r:.80}): a name, or several")
            object.__setattr__(self, name, names)
        for spec in self.best:
            parse_best(spec)
        for span in filter(None, (self.aside, self.grace)):
            parse_span(span)
        if self.last is None and self.every is None and not self.best:
            raise ConfigError("Keep: name what to keep: last, every or best")

    @property
    def words(self) -> str:
        """The rules as options of `gradient forget`."""
        return " ".join(self._words())

    def _words(self) -> Iterator[str]:
        for name in ("last", "every"):
            value = getattr(self, name)
            if value is not None:
                yield f"--keep-{name} {value}"
        yield from (f"--keep-best {spec}" for spec in self.best)
        if self.aside is not None:
            yield f"--keep-aside {self.aside}"
        yield from (f"--drop {name}" for name in self.drop)


@dataclass(frozen=True, slots=True)
class Best:
    """A rule that keeps the best commits by one metric."""

    metric: str
    """Its name."""
    sign: int
    """1 if the lowest value is the best, -1 if the highest is."""
    count: int
    """The number of commits."""


def parse_best(spec: str) -> Best:
    """Parse ``val_loss``, ``val_loss:3`` or ``acc:max:3``; raises ConfigError."""
    name, _, count = spec.rpartition(":")
    if name and _COUNT.fullmatch(count):
        metric, sign = split_metric(name)
        if int(count):
            return Best(metric, sign, int(count))
    elif spec and spec.strip(":") == spec:
        metric, sign = split_metric(spec)
        return Best(metric, sign, 1)
    raise ConfigError(
        f"{spec!r:.80} names no best commits; write a metric and a number: val_loss:3"
    )


def parse_span(text: str) -> float:
    """Parse a time span such as ``14d`` to seconds; raises ConfigError."""
    match = _SPAN.fullmatch(str(text))
    if match is None:
        raise ConfigError(
            f"{text!r:.80} is not a time span; write 0, or a number and s, m, h, d or w: 14d"
        )
    return 0.0 if match[1] is None else float(int(match[1]) * _UNITS[match[2]])


def _whole(name: str, value: object, least: int) -> None:
    if value is not None and (type(value) is not int or value < least):
        raise ConfigError(f"Keep({name}={value!r:.80}): a whole number from {least} on")
