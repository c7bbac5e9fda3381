"""A whole run as one state: a dict of components."""

from __future__ import annotations

from typing import Any

from gradient.state import rng
from gradient.state.live_objects import LiveObjects
from gradient.state.model import capture_model
from gradient.state.optimizer import capture_optimizer
from gradient.state.parameter_names import ParameterNames
from gradient.state.scheduler import capture_scheduler
from gradient.state.value_format import Pickled


def capture(run: LiveObjects) -> dict[str, Any]:
    """Return the state of a run by component. The tensors are the live ones, not copies.

    The generators are captured last, because a getter may draw random numbers.
    """
    state: dict[str, Any] = {"model": capture_model(run.model)}
    if run.optimizer is not None:
        names = ParameterNames(run.model, run.optimizer)
        state["optimizer"] = capture_optimizer(run.optimizer, names)
    if run.scheduler is not None:
        state["scheduler"] = capture_scheduler(run.scheduler)
    for name, registered in run.registered.items():
        value = registered.getter()
        state[name] = Pickled.of(value) if registered.pickle else value
    state["rng"] = rng.capture()
    return state
