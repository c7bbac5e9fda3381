"""A scheduler's state: its ``state_dict`` without functions."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from gradient.state.model import Mismatch
from gradient.state.optimizer import Stateful
from gradient.state.optimizer_plan import HyperparameterChange, same_value

_CODE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)

_PROGRESS = frozenset(
    {"last_epoch", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i", "verbose"}
    | {"lr_lambdas"}
)
"""Public state that changes as a scheduler steps; such differences are not reported."""


def capture_scheduler(scheduler: Stateful) -> dict[str, Any]:
    """Return the scheduler's state dict.

    torch's base class returns every attribute. Functions (a custom annealing) are left out, because
    they are code of the script. A restore keeps the script's own.
    """
    state = scheduler.state_dict()
    return _without_code(state) if isinstance(scheduler, LRScheduler) else state


def _without_code(state: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in state.items():
        if name == "_schedulers" and type(value) is list:
            result[name] = [_without_code(item) for item in value]
        elif not isinstance(value, _CODE):
            result[name] = value
    return result


class SchedulerPlan:
    """A checked restore of a scheduler. Creating a plan changes nothing."""

    def __init__(self, scheduler: Stateful, saved: Any) -> None:
        self._scheduler = scheduler
        self._saved = saved
        self.mismatch = Mismatch()
        """Public attributes that only one side has; torch would load them without an error."""
        self.differences: list[HyperparameterChange] = []
        """The hyperparameters in which script and checkpoint differ."""
        if not isinstance(saved, dict):
            self.mismatch.mismatched["scheduler"] = f"saved a {type(saved).__name__}"
        elif isinstance(scheduler, LRScheduler):
            self._compare("scheduler", capture_scheduler(scheduler), saved)

    def _compare(self, where: str, live: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
        here, there = _public(live), _public(saved)
        self.mismatch.missing.extend(f"{where}.{name}" for name in here if name not in there)
        self.mismatch.unexpected.extend(f"{where}.{name}" for name in there if name not in here)
        ours, theirs = live.get("_schedulers", []), saved.get("_schedulers", [])
        if len(ours) != len(theirs):
            self.mismatch.mismatched[where] = f"saved {len(theirs)} schedulers, here {len(ours)}"
        for i, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            self._compare(f"{where}[{i}]", one, other)
        for name in sorted(here & there - _PROGRESS):
            if name == "base_lrs" and len(live[name]) != len(saved[name]):
                text = f"saved {len(saved[name])} groups, here {len(live[name])}"
                self.mismatch.mismatched[f"{where}.{name}"] = text
            elif name == "base_lrs" and "max_lrs" not in live:
                continue  # the groups' initial_lr, which the optimizer's plan reports
            elif not same_value(live[name], saved[name]):
                self.differences.append(HyperparameterChange(where, name, live[name], saved[name]))

    def apply(self) -> None:
        """Load the state if it fits."""
        if not self.mismatch:
            self._scheduler.load_state_dict(self._saved)


def _public(state: Mapping[str, Any]) -> set[str]:
    return {name for name in state if not name.startswith("_")}
