"""The live objects of a run, and the further state that the script registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gradient.errors import ConfigError, InvalidNameError
from gradient.state.optimizer import Stateful

BUILT_IN = ("model", "optimizer", "scheduler", "rng")
"""The components every run has (a scheduler if there is one)."""

RESERVED = frozenset(
    {*BUILT_IN, "step", "amp", "distributed", "external", "meta", "data", "is_delta"}
    | {"anchor_id", "anchor_ref", "anchor_path"}
)
"""Names that mean something else in a checkpoint file."""

_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Registered:
    """State that the script registered under a name."""

    getter: Callable[[], Any]
    """Returns the state: plain data and tensors."""
    setter: Callable[[Any], object]
    """Takes back what the getter returned; the value is its own to keep."""
    required: bool = True
    """Whether a checkpoint without it is refused."""
    pickle: bool = False
    """Whether its value may travel as a pickle, which runs code when it is read."""

    @classmethod
    def of(cls, thing: object, *, required: bool = True, pickle: bool = False) -> Registered:
        """Register an object with ``state_dict`` and ``load_state_dict``."""
        getter = getattr(thing, "state_dict", None)
        setter = getattr(thing, "load_state_dict", None)
        if not callable(getter) or not callable(setter):
            raise ConfigError(
                f"what is registered is of type {type(thing).__name__}, which has no "
                "state_dict/load_state_dict; "
                "register a getter and a setter instead"
            )
        return cls(getter, setter, required, pickle)


@dataclass(slots=True)
class LiveObjects:
    """What is captured and restored together."""

    model: torch.nn.Module
    """The model, wrapped or not."""
    optimizer: Stateful | None = None
    """Its optimizer."""
    scheduler: Stateful | None = None
    """Anything with ``state_dict`` and ``load_state_dict``."""
    registered: dict[str, Registered] = field(default_factory=dict)
    """Further state by name; the names stand beside the built-in ones."""


def check_objects(model: object, optimizer: object, scheduler: object) -> None:
    """Refuse objects whose state cannot be taken and put back; raises ConfigError."""
    wanted = "attach takes the model, the optimizer and the scheduler, in this order"
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(
            f"the model is of type {type(model).__name__}, no torch.nn.Module: {wanted}"
        )
    if isinstance(optimizer, torch.nn.Module):
        raise ConfigError(f"the optimizer is a torch.nn.Module: {wanted}")
    for role, thing in (("optimizer", optimizer), ("scheduler", scheduler)):
        methods = (getattr(thing, name, None) for name in ("state_dict", "load_state_dict"))
        if thing is not None and not all(map(callable, methods)):
            raise ConfigError(
                f"the {role} is of type {type(thing).__name__}, which has no "
                f"state_dict/load_state_dict: {wanted}"
            )


def check_name(name: str) -> None:
    """Refuse a name for registered state that could collide; raises InvalidNameError."""
    if type(name) is not str or not name or len(name) > _MAX_NAME:
        raise InvalidNameError(str(name), f"a state's name is a string of 1 to {_MAX_NAME} letters")
    if name in RESERVED:
        raise InvalidNameError(name, f"it is reserved ({', '.join(sorted(RESERVED))})")
    if not name.isprintable():
        raise InvalidNameError(name, "it has characters that cannot be printed")
