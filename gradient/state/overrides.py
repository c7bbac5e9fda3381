"""Changes that a fork makes to a restored optimizer and scheduler.

A learning rate is stored in several places: each group's ``lr``, the ``initial_lr`` that a
scheduler adds to the group, and the scheduler's ``base_lrs``. Schedulers that run between two
levels also use the group's ``max_lr``/``min_lr`` or their own ``max_lrs``. If a change leaves out
one of these, the next step of the scheduler undoes it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gradient.errors import ConfigError
from gradient.state.optimizer import Stateful, same_class
from gradient.state.snapshot import snapshot

_RATE_NAMES = ("initial_lr", "max_lr", "min_lr", "swa_lr")
"""Learning rates that schedulers keep in the groups in addition to ``lr``."""

_SCHEDULED = ("lr", *_RATE_NAMES, "base_momentum", "max_momentum")
"""Options that schedulers write; with ``base_momentum`` also ``momentum`` or ``betas``."""

_TORCH_PACKAGE = "torch.optim."


@dataclass(frozen=True, slots=True)
class Baseline:
    """The options of optimizer and scheduler when they were attached."""

    scheduler: Any
    """The state of the scheduler; None without one."""
    groups: tuple[dict[str, Any], ...]
    """The options that a scheduler writes, for each group."""


def baseline(optimizer: object, scheduler: Stateful | None) -> Baseline:
    """Return the baseline to which `reset_scheduler` returns."""
    state = None if scheduler is None else snapshot(scheduler.state_dict())
    groups = tuple(snapshot(_scheduled_options(group)) for group in _groups(optimizer))
    return Baseline(state, groups)


def reset_optimizer(optimizer: object, saved: Mapping[str, Any] | None = None) -> None:
    """Reset the optimizer's state to the state after construction; raises ConfigError.

    `saved` is the captured optimizer of the source. All its options are adopted if the class is the
    same; otherwise only the options that a scheduler writes, because the scheduler continues.
    """
    state = getattr(optimizer, "state", None)
    if not isinstance(state, dict):
        raise ConfigError(f"a {type(optimizer).__name__} has no state that could be reset")
    fresh = _initial_state(optimizer)
    state.clear()
    state.update(fresh)
    groups = _groups(optimizer)
    theirs = [] if saved is None else saved.get("param_groups", [])
    if saved is None or len(theirs) != len(groups):
        return
    every = same_class(saved.get("class"), optimizer)
    for group, source in zip(groups, theirs, strict=True):
        options = source if every else _scheduled_options(source)
        for name, value in snapshot(dict(options)).items():
            if name not in ("params", "param_names") and (every or name in group):
                group[name] = value


def _initial_state(optimizer: object) -> dict[Any, Any]:
    """Return the state that torch's constructor creates (Adagrad's accumulators; mostly none)."""
    base: Any = next(
        (c for c in type(optimizer).__mro__ if c.__module__.startswith(_TORCH_PACKAGE)), None
    )
    if not isinstance(optimizer, torch.optim.Optimizer) or base is torch.optim.Optimizer:
        return {}
    accepted = inspect.signature(base).parameters
    defaults = {name: value for name, value in optimizer.defaults.items() if name in accepted}
    return dict(base([dict(group) for group in optimizer.param_groups], **defaults).state)


def reset_scheduler(optimizer: object, scheduler: Stateful | None, start: Baseline) -> None:
    """Reset the scheduler and the options it writes to the baseline."""
    if scheduler is not None and start.scheduler is not None:
        scheduler.load_state_dict(snapshot(start.scheduler))
    for group, first in zip(_groups(optimizer), start.groups, strict=False):
        for name in _scheduled_options(group):
            if name not in first and name in _RATE_NAMES:
                del group[name]
        group.update(snapshot(first))


def check_options(optimizer: object, options: Mapping[str, Any]) -> None:
    """Raise ConfigError for options that no group has, or values of another type."""
    groups = _groups(optimizer)
    allowed = sorted({name for group in groups for name in group} - {"params", "param_names"})
    for name, value in options.items():
        if name not in allowed:
            raise ConfigError(f"no param-group option {name!r}; there are {', '.join(allowed)}")
        for group in groups:
            if name in group:
                _convert(name, value, group[name])


def set_options(optimizer: object, scheduler: Stateful | None, options: Mapping[str, Any]) -> None:
    """Set options in every group, so that the scheduler continues from them.

    ``lr`` also sets ``initial_lr`` and the scheduler's ``base_lrs``. For a scheduler that runs
    between two levels (OneCycleLR, CyclicLR), all rates are scaled so that the current rate is
    ``lr``. Raises ConfigError as `check_options` does.
    """
    check_options(optimizer, options)
    for name, value in options.items():
        if name == "lr":
            _set_lr(optimizer, scheduler, float(value))
            continue
        for group in _groups(optimizer):
            if name in group:
                group[name] = _convert(name, value, group[name])
        if name == "initial_lr":
            for part in _parts(scheduler):
                _replace(part, "base_lrs", lambda old, i, v=value: _like(old, float(v)))


def scale_lr(optimizer: object, scheduler: Stateful | None, factor: float) -> None:
    """Multiply every learning rate of groups and scheduler by `factor`; raises ConfigError."""
    if not _is_number(factor) or not math.isfinite(factor) or factor <= 0:
        raise ConfigError(f"scale_lr is a finite number above 0, not {factor!r}")
    _scale(optimizer, scheduler, [float(factor)] * len(_groups(optimizer)))


def _set_lr(optimizer: object, scheduler: Stateful | None, lr: float) -> None:
    groups, parts = _groups(optimizer), list(_parts(scheduler))
    if any("max_lr" in group for group in groups) or any(hasattr(p, "max_lrs") for p in parts):
        _scale(optimizer, scheduler, [lr / _rate(parts, i, g) for i, g in enumerate(groups)])
    else:
        for group in groups:
            if "initial_lr" in group:
                group["initial_lr"] = _like(group["initial_lr"], lr)
        for part in parts:
            _replace(part, "base_lrs", lambda old, i: _like(old, lr))
    for group in groups:
        group["lr"] = _like(group["lr"], lr)
    for part in parts:
        _replace(part, "_last_lr", lambda old, i: _like(old, lr))


def _rate(parts: list[object], index: int, group: Mapping[str, Any]) -> float:
    """Return the rate of a group, or its maximum if the rate is 0."""
    peaks = [part.max_lrs[index] for part in parts if hasattr(part, "max_lrs")]
    rates = (group["lr"], group.get("max_lr", 0.0), *peaks, 1.0)
    return next(float(rate) for rate in rates if float(rate) != 0.0)


def _scale(optimizer: object, scheduler: Stateful | None, factors: list[float]) -> None:
    for group, factor in zip(_groups(optimizer), factors, strict=True):
        for name in ("lr", *_RATE_NAMES):
            if name in group:
                group[name] = _like(group[name], float(group[name]) * factor)
    for part in _parts(scheduler):
        for name in ("base_lrs", "max_lrs", "_last_lr"):
            _replace(part, name, lambda old, i: _like(old, float(old) * factors[i]))


def _parts(scheduler: object) -> Iterator[object]:
    """Yield a scheduler and the schedulers inside it."""
    if scheduler is not None:
        yield scheduler
        for part in getattr(scheduler, "_schedulers", ()):
            yield from _parts(part)


def _replace(part: object, name: str, new: Any) -> None:
    rates = getattr(part, name, None)
    if isinstance(rates, list):
        setattr(part, name, [new(old, i) for i, old in enumerate(rates)])


def _like(old: Any, value: float) -> Any:
    """Return `value` in the form of `old`: a new tensor or a number."""
    return torch.full_like(old, value) if isinstance(old, torch.Tensor) else value


def _groups(optimizer: object) -> list[dict[str, Any]]:
    groups = getattr(optimizer, "param_groups", None)
    return groups if isinstance(groups, list) else []


def _scheduled_options(group: Mapping[str, Any]) -> dict[str, Any]:
    names = (*_SCHEDULED, "momentum", "betas") if "base_momentum" in group else _SCHEDULED
    return {name: group[name] for name in names if name in group}


def _convert(name: str, value: Any, old: Any) -> Any:
    """Return the new value of an option in the type of the old one; raises ConfigError."""
    number = _is_number(value)
    allowed = number and math.isfinite(value) and value >= 0 if name == "lr" else True
    if allowed and number and isinstance(old, torch.Tensor):
        return torch.full_like(old, value)
    if allowed and number and _is_number(old):
        return float(value) if isinstance(old, float) else value
    if isinstance(old, tuple | list):
        if isinstance(value, tuple | list) and len(old) == len(value):
            return type(old)(value)
    elif name != "lr" and (old is None or type(value) is type(old)):
        return value
    raise ConfigError(f"the option {name} is {old!r} here and cannot become {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
