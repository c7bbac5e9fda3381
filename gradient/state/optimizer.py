"""An optimizer's state by parameter name, so that it cannot be loaded into another parameter.

torch keys the state by position. If the order of parameters changes, torch loads the wrong state
without an error. Here the state of each parameter is stored under its name. The captured form is::

    {"class": "torch.optim.adamw.AdamW",
     "param_groups": [{"lr": ..., ..., "params": ["wte.weight", ...]}, ...],
     "state": {"wte.weight": {"step": ..., "exp_avg": ...}, ...},       sorted by name
     "outside": {"group0.3": {"shape": ..., "dtype": ...}},             parameters of no model
     "other": {...}, "extra": {...}}        state of no parameter; further keys of the state dict

The last three keys exist only if they are needed. A state dict with another structure is stored
unchanged: ``{"class": ..., "opaque": state_dict}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gradient.state.parameter_names import ParameterNames

if TYPE_CHECKING:
    import torch


class Stateful(Protocol):
    """The interface that torch uses for checkpointed objects."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data and tensors."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Restore the state."""


def capture_optimizer(optimizer: Stateful, names: ParameterNames) -> dict[str, Any]:
    """Return the optimizer's state by parameter name. The tensors are the live ones."""
    state_dict = optimizer.state_dict()
    kind = class_name(optimizer)
    parameters = _numbered(optimizer, state_dict)
    if parameters is None:
        return {"class": kind, "opaque": state_dict}
    by_number = {number: names.of(parameter) for number, parameter in parameters.items()}
    groups = [
        {**group, "params": [by_number[number] for number in group["params"]]}
        for group in state_dict["param_groups"]
    ]
    state, other = {}, {}
    for key, value in state_dict["state"].items():
        if type(key) is int and key in by_number:
            state[by_number[key]] = value
        else:
            other[key] = value
    captured: dict[str, Any] = {
        "class": kind,
        "param_groups": groups,
        "state": {name: state[name] for name in sorted(state)},
    }
    outside = {
        name: {"shape": parameter.shape, "dtype": parameter.dtype}
        for name, parameter in names.outside.items()
    }
    extra = {k: v for k, v in state_dict.items() if k not in ("state", "param_groups")}
    optional = {"outside": outside, "other": other, "extra": extra}
    return captured | {name: value for name, value in optional.items() if value}


def to_state_dict(captured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict, with numbered parameters, that the optimizer's class loads."""
    if "opaque" in captured:
        opaque: dict[str, Any] = captured["opaque"]
        return opaque
    names = [name for group in captured["param_groups"] for name in group["params"]]
    number = {name: place for place, name in enumerate(names)}
    groups = [
        {**group, "params": [number[name] for name in group["params"]]}
        for group in captured["param_groups"]
    ]
    state = {number[name]: captured["state"][name] for name in number if name in captured["state"]}
    state |= captured.get("other", {})
    return {"state": state, "param_groups": groups, **captured.get("extra", {})}


def class_name(thing: object) -> str:
    """Return the full name of an object's class. It is compared and shown, never imported."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def same_class(saved: object, live: object) -> bool:
    """Return whether `saved` names the class of `live`, comparing only the last part of the name.

    Classes move between modules with torch versions and with ``__main__``. None matches any class:
    checkpoints of other programs do not record it.
    """
    if saved is None:
        return True
    return (
        type(saved) is str and saved.rsplit(".", 1)[-1] == type(live).__qualname__.rsplit(".")[-1]
    )


def _numbered(optimizer: object, state_dict: object) -> dict[int, torch.Tensor] | None:
    """Map the numbers in a state dict to live parameters; None if it is not in torch's form."""
    live = getattr(optimizer, "param_groups", None)
    if type(live) is not list or not isinstance(state_dict, dict):
        return None
    groups, state = state_dict.get("param_groups"), state_dict.get("state")
    if type(groups) is not list or not isinstance(state, dict) or len(groups) != len(live):
        return None
    result: dict[int, torch.Tensor] = {}
    for group, live_group in zip(groups, live, strict=True):
        numbers = group.get("params") if isinstance(group, dict) else None
        if type(numbers) is not list or len(numbers) != len(live_group["params"]):
            return None
        if not all(type(number) is int for number in numbers):
            return None
        result.update(zip(numbers, live_group["params"], strict=True))
    return result
