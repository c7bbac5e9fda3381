"""Restoring an optimizer by parameter name, to exactly the saved bits.

torch's ``load_state_dict`` casts state to the dtype of its parameter and keeps references to its
argument. It is still called, for its hooks and for subclasses. Afterwards, every tensor that it
cast is replaced by the saved one. The optimizer keeps the saved tensors; the caller must not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradient.state.model import TIED_MESSAGE, Mismatch
from gradient.state.optimizer import Stateful, same_class, to_state_dict
from gradient.state.parameter_names import ParameterNames


@dataclass(frozen=True, slots=True)
class HyperparameterChange:
    """A hyperparameter with different values in script and checkpoint; the checkpoint's is used."""

    where: str
    """``optimizer.param_groups[0]`` or ``scheduler``."""
    option: str
    """Its name."""
    script: Any
    """The script's value."""
    checkpoint: Any
    """The checkpoint's value."""

    def __str__(self) -> str:
        return f"{self.where}.{self.option}: checkpoint {self.checkpoint}, script {self.script}"


class OptimizerPlan:
    """A checked restore of an optimizer. Creating a plan changes nothing."""

    def __init__(
        self,
        optimizer: Stateful,
        names: ParameterNames,
        saved: Mapping[str, Any],
        *,
        unfit: Collection[str] = (),
    ) -> None:
        """Compare; `unfit` names parameters whose shape or dtype differs in the live model."""
        self._optimizer = optimizer
        self._names = names
        self._saved = saved
        self._unfit = frozenset(unfit)
        self.mismatch = Mismatch()
        self.reset: list[str] = []
        """Parameters whose state is reset if the plan is applied despite a mismatch."""
        self.differences: list[HyperparameterChange] = []
        """The options in which script and checkpoint differ."""
        self.frozen: list[str] = []
        """Parameters that do not require a gradient although the checkpoint has state for them."""
        self._same_class = same_class(saved.get("class"), optimizer)
        if not self._same_class:
            here = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
            self.mismatch.mismatched["optimizer"] = f"saved {saved.get('class')}, here {here}"
        self._opaque = "opaque" in saved
        if not self._opaque:
            self._compare()

    def _compare(self) -> None:
        live = getattr(self._optimizer, "param_groups", None)
        if type(live) is not list:
            self.mismatch.mismatched["optimizer"] = (
                "saved in torch's form, here without param_groups"
            )
            return
        self._live = [[self._names.of(p) for p in group["params"]] for group in live]
        groups = self._saved["param_groups"]
        self._alias: dict[str, str] = {}  # live name -> saved name
        saved_group: dict[str, int] = {}
        for g, group in enumerate(groups):
            for name in group["params"]:
                here = self._names.canonical(name)
                if here is None:
                    self.mismatch.unexpected.append(f"optimizer: {name}")
                elif self._alias.setdefault(here, name) != name:
                    self.mismatch.mismatched[f"optimizer: {name}"] = TIED_MESSAGE.format(
                        self._alias[here]
                    )
                else:
                    saved_group[here] = g
        if len(groups) != len(live):
            self.mismatch.mismatched["optimizer.param_groups"] = (
                f"saved {len(groups)} groups, here {len(live)}"
            )
        for g, members in enumerate(self._live):
            for name in members:
                if name not in saved_group:
                    self.mismatch.missing.append(f"optimizer: {name}")
                elif saved_group[name] != g and len(groups) == len(live):
                    self.mismatch.mismatched[f"optimizer: {name}"] = f"not in group {g} there"
        absent = saved_group.keys() - {name for members in self._live for name in members}
        self.mismatch.unexpected.extend(
            f"optimizer: {self._alias[n]}" for n in saved_group if n in absent
        )
        self._compare_outside()
        self._compare_order()
        self.frozen = [n for n in self._loadable() if not self._names.by_name[n].requires_grad]
        if len(groups) == len(live) and self._same_class:
            for g, (group, live_group) in enumerate(zip(groups, live, strict=True)):
                self.differences.extend(
                    _differences(f"optimizer.param_groups[{g}]", group, live_group)
                )

    def _compare_outside(self) -> None:
        for name, described in self._saved.get("outside", {}).items():
            parameter = self._names.by_name.get(name)
            if parameter is None:
                continue
            if parameter.shape != described["shape"] or parameter.dtype != described["dtype"]:
                self.mismatch.mismatched[f"optimizer: {name}"] = (
                    f"saved {tuple(described['shape'])} {described['dtype']}, "
                    f"here {tuple(parameter.shape)} {parameter.dtype}"
                )
                self._unfit |= {name}

    def _compare_order(self) -> None:
        """Find the states that cannot be moved to another position with their parameter."""
        saved = [
            [self._names.canonical(n) for n in g["params"]] for g in self._saved["param_groups"]
        ]
        self._same_order = saved == self._live
        self._immovable = (
            [] if self._same_order else [n for n in self._loadable() if not self._can_move(n)]
        )
        if self._saved.get("other") and not self._same_order:
            self._immovable.append("the optimizer as a whole")
        if self._immovable and not self.mismatch:
            self.mismatch.mismatched["optimizer"] = (
                "its parameters have another order here, and the state of "
                f"{self._immovable[0]} is not shaped as its parameter, so it cannot be moved"
            )

    def _loadable(self) -> Iterator[str]:
        for members in self._live:
            for name in members:
                if self._alias.get(name) in self._saved["state"]:
                    yield name

    def _can_move(self, name: str) -> bool:
        shape = self._names.by_name[name].shape
        state = self._saved["state"][self._alias[name]]
        return all(t.dim() == 0 or t.shape == shape for t in _tensors(state))

    def apply(self) -> None:
        """Load the state that fits; the state of other parameters is reset."""
        if self._opaque or "param_groups" not in self._saved:
            if self._same_class:
                saved = to_state_dict(self._saved)
                self._optimizer.load_state_dict(saved)
                _uncast(saved, self._optimizer.state_dict())
            return
        live = self._optimizer.state_dict()
        kept = [] if not self._same_class else [n for n in self._loadable() if self._fits(n)]
        state = {name: self._saved["state"][self._alias[name]] for name in kept}
        number = {name: i for i, name in enumerate(n for group in self._live for n in group)}
        groups = self._groups(live["param_groups"], number)
        self._optimizer.load_state_dict(
            {
                **self._saved.get("extra", {}),
                "state": {number[name]: value for name, value in state.items()}
                | (
                    self._saved.get("other", {}) if self._same_class and not self._immovable else {}
                ),
                "param_groups": groups,
            }
        )
        loaded = self._optimizer.state  # type: ignore[attr-defined]
        for name, value in state.items():
            parameter = self._names.by_name[name]
            if parameter in loaded:
                loaded[parameter] = _with_saved_bits(value, loaded[parameter])

    def _fits(self, name: str) -> bool:
        return name not in self._unfit and (self._same_order or self._can_move(name))

    def _groups(
        self, live: list[dict[str, Any]], number: Mapping[str, int]
    ) -> list[dict[str, Any]]:
        saved = self._saved["param_groups"]
        use_saved = self._same_class and len(saved) == len(live)
        groups = []
        for g, members in enumerate(self._live):
            options = dict(saved[g] if use_saved else live[g])
            if "param_names" in live[g]:
                options["param_names"] = live[g]["param_names"]
            else:
                options.pop("param_names", None)
            for option, value in options.items():
                here = live[g].get(option)
                if isinstance(value, torch.Tensor) and isinstance(here, torch.Tensor):
                    options[option] = value.to(here.device)
            groups.append(options | {"params": [number[name] for name in members]})
        return groups

    def lost(self) -> list[str]:
        """Return the live parameters whose state `apply` resets although state was expected."""
        if self._opaque or not (self.mismatch or self._unfit):
            return []
        if not self._same_class:
            return [name for members in self._live for name in members]
        fit = {name for name in self._loadable() if self._fits(name)}
        stateful = set(self._loadable()) | {
            n for m in self._live for n in m if n not in self._alias
        }
        return [n for members in self._live for n in members if n in stateful - fit]


def _differences(
    where: str, saved: Mapping[str, Any], live: Mapping[str, Any]
) -> Iterator[HyperparameterChange]:
    for option, value in saved.items():
        if option in ("params", "param_names") or option not in live:
            continue
        if option in scheduled(saved) and option in scheduled(live):
            continue
        if not same_value(value, live[option]):
            # The script's own rate is the one that its scheduler recorded.
            name = "lr" if option == "initial_lr" else option
            yield HyperparameterChange(where, name, live[option], value)


def scheduled(group: Mapping[str, Any]) -> set[str]:
    """Return the options of a group that a scheduler changes as it steps."""
    options = {"lr"} if "initial_lr" in group else set()
    return options | {"momentum", "betas"} if "base_momentum" in group else options


def same_value(one: Any, other: Any) -> bool:
    """Return whether two options have the same value; a tensor or an array equals its numbers."""
    one, other = _plain(one), _plain(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(one[k], other[k]) for k in one)
    return bool(one == other) or (one != one and other != other)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple | deque) else value


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _uncast(saved: Any, loaded: Any) -> Any:
    """Return `loaded` with the saved tensors in place of those that torch's optimizers cast.

    The state dict of a wrapper refers to the inner optimizers' own state, so this changes them in
    place. Changing a copy has no effect.
    """
    if isinstance(saved, torch.Tensor) and isinstance(loaded, torch.Tensor):
        return loaded if loaded.dtype == saved.dtype else saved.to(loaded.device)
    if isinstance(saved, dict) and isinstance(loaded, dict):
        for key in saved.keys() & loaded.keys():
            loaded[key] = _uncast(saved[key], loaded[key])
    elif type(saved) in (list, tuple) and type(loaded) is type(saved) and len(saved) == len(loaded):
        return type(saved)(_uncast(a, b) for a, b in zip(saved, loaded, strict=True))
    elif type(saved) is str:
        return saved  # torch would return the repr of a generator
    return loaded


def _with_saved_bits(saved: Any, loaded: Any) -> Any:
    """Return the saved value if torch cast it, on the device that torch chose."""
    if isinstance(saved, torch.Tensor):
        return saved.to(loaded.device) if isinstance(loaded, torch.Tensor) else saved
    if isinstance(saved, dict) and isinstance(loaded, dict):
        for key, value in saved.items():
            loaded[key] = _with_saved_bits(value, loaded.get(key))
        return loaded
    if type(saved) in (list, tuple) and type(loaded) is type(saved) and len(saved) == len(loaded):
        return type(saved)(_with_saved_bits(a, b) for a, b in zip(saved, loaded, strict=True))
    # A number that newer classes keep as a tensor ("step" of old checkpoints) stays a tensor.
    return loaded if isinstance(loaded, torch.Tensor) else saved
