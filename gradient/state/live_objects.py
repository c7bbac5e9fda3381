"""The live objects of a run, and the state that the script registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gradient.errors import ConfigError, InvalidNameError
from gradient.state.optimizer import Stateful

BUILT_IN = ("model", "optimizer", "scheduler", "rng")
"""The components that are not registered by name."""

RESERVED = frozenset(
    {*BUILT_IN, "step", "amp", "distributed", "external", "meta", "data", "is_delta"}
    | {"anchor_id", "anchor_ref", "anchor_path"}
)
"""Names that have another meaning in a checkpoint file."""

_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Registered:
    """State that the script registered under a name."""

    getter: Callable[[], Any]
    """Returns the state: plain data and tensors."""
    setter: Callable[[Any], object]
    """Accepts the state that the getter returned, and may keep it."""
    required: bool = True
    """True if a checkpoint without this state is refused."""
    pickle: bool = False
    """True if the state may be stored as a pickle, which can run code when it is read."""

    @classmethod
    def of(cls, thing: object, *, required: bool = True, pickle: bool = False) -> Registered:
        """Register an object with ``state_dict`` and ``load_state_dict``; raises ConfigError."""
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
    """The objects that are captured and restored together."""

    model: torch.nn.Module
    """The model, wrapped or not."""
    optimizer: Stateful | None = None
    """Its optimizer."""
    scheduler: Stateful | None = None
    """Anything with ``state_dict`` and ``load_state_dict``."""
    registered: dict[str, Registered] = field(default_factory=dict)
    """The registered states by name."""


def check_objects(model: object, optimizer: object, scheduler: object) -> None:
    """Raise ConfigError for objects whose state cannot be captured and restored."""
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
    """Raise InvalidNameError if registered state cannot have this name."""
    if type(name) is not str or not name or len(name) > _MAX_NAME:
        raise InvalidNameError(str(name), f"a state's name is a string of 1 to {_MAX_NAME} letters")
    if name in RESERVED:
        raise InvalidNameError(name, f"it is reserved ({', '.join(sorted(RESERVED))})")
    if not name.isprintable():
        raise InvalidNameError(name, "it has characters that cannot be printed")
