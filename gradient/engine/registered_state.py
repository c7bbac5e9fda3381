"""States that a script registers: how each kind of object is captured and restored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from gradient.errors import MisfitError
from gradient.state.live_objects import Registered
from gradient.state.model import TIED_MESSAGE, conflicting_ties, is_extra
from gradient.state.optimizer import class_name
from gradient.state.optimizer_plan import OptimizerPlan
from gradient.state.parameter_names import ParameterNames
from gradient.state.scheduler import capture_scheduler


def registered(
    thing: Any, setter: Callable[[Any], Any] | None, *, required: bool, pickle: bool
) -> Registered:
    """Register a getter and a setter, or one object (`setter` None).

    An optimizer's state is its plain state dict; it is restored without the casts of its own
    ``load_state_dict``. A module's state is refused if ``load_state_dict`` would cast it. A
    scheduler's state contains no functions. Raises ConfigError for an object without state.
    """
    if setter is not None:
        return Registered(thing, setter, required, pickle)
    if isinstance(thing, torch.optim.Optimizer):
        return Registered(thing.state_dict, partial(load_exactly, thing), required, pickle)
    if isinstance(thing, torch.nn.Module):
        return Registered(thing.state_dict, partial(load_uncast, thing), required, pickle)
    if isinstance(thing, LRScheduler):
        getter = partial(capture_scheduler, thing)
        return Registered(getter, thing.load_state_dict, required, pickle)
    return Registered.of(thing, required=required, pickle=pickle)


def load_exactly(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a state dict with its saved dtypes; raise MisfitError if the param groups differ."""
    groups = saved["param_groups"]
    names: dict[int, str] = {}
    for g, group in enumerate(groups):
        for i, number in enumerate(group["params"]):
            names.setdefault(number, f"group{g}.{i}")  # a parameter may occur twice
    state = saved["state"]
    captured = {
        "class": class_name(optimizer),
        "param_groups": [
            {**group, "params": [names[number] for number in group["params"]]} for group in groups
        ],
        "state": {names[key]: value for key, value in state.items() if key in names},
        "other": {key: value for key, value in state.items() if key not in names},
        "extra": {k: v for k, v in saved.items() if k not in ("state", "param_groups")},
    }
    # With an empty model, parameters are identified by position.
    plan = OptimizerPlan(optimizer, ParameterNames(torch.nn.Module(), optimizer), captured)
    if plan.mismatch:
        raise plan.mismatch.error("optimizer")
    plan.apply()


def load_uncast(module: torch.nn.Module, saved: Any) -> None:
    """Load a module's state.

    Raises MisfitError if torch would cast a tensor, or if tied tensors were saved with different
    values.
    """
    live = module.state_dict()
    cast = {
        name: f"saved {value.dtype}, here {live[name].dtype}"
        for name, value in saved.items()
        if isinstance(value, torch.Tensor)
        and isinstance(live.get(name), torch.Tensor)
        and live[name].dtype != value.dtype
        and not is_extra(name)
    }
    if cast:
        lines = "".join(f"\n  different: {name}: {text}" for name, text in cast.items())
        raise MisfitError(
            f"the state of a registered {type(module).__name__} would be cast; make it in the "
            f"saved dtype, or register a getter and a setter that converts:{lines}",
            mismatched=cast,
        )
    torn = {
        name: TIED_MESSAGE.format(other) for name, other in conflicting_ties(live, saved).items()
    }
    if torn:
        lines = "".join(f"\n  different: {name}: {text}" for name, text in torn.items())
        raise MisfitError(
            f"the state of a registered {type(module).__name__} does not fit:{lines}",
            mismatched=torn,
        )
    module.load_state_dict(saved)
