"""``.pt`` files: a state dict, alone or together with the other parts of a run.

Scripts use many names for the parts; the names below are known. Any other number becomes a metric,
and anything else becomes a state under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch

from gradient.errors import MalformedObjectError
from gradient.integrations import untrusted_pickle
from gradient.integrations.imported_checkpoint import Incoming, as_step, step_of_name
from gradient.state.live_objects import RESERVED
from gradient.state.parameter_names import stripped

SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt")
"""The suffixes of such files."""

_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "model": (
        "model",
        "model_state_dict",
        "state_dict",
        "model_state",
        "module",
        "net",
        "network",
        "weights",
    ),
    "optimizer": (
        "optimizer",
        "optimizer_state_dict",
        "optim",
        "optimizer_state",
        "optimizer_states",
        "optim_state_dict",
    ),
    "scheduler": (
        "scheduler",
        "scheduler_state_dict",
        "lr_scheduler",
        "lr_scheduler_state_dict",
        "lr_schedulers",
        "sched",
    ),
}
"""The names of the parts of a run, the usual name first."""

_STEPS: Final = ("step", "global_step", "iteration", "iter", "iter_num", "steps")
_HPARAMS: Final = ("hparams", "hyper_parameters", "config", "args", "model_args")
_GENERATORS: Final = "the generators' states stay behind: a run that continues draws anew"
_SHAPE: Final = frozenset({"data", "is_delta"})


def read(path: str) -> Incoming:
    """Read a file; raise IntegrityError, UnsupportedValueError or MalformedObjectError."""
    return arrange(untrusted_pickle.load(path), path)


def arrange(content: Any, path: str) -> Incoming:
    """Separate the parts of a file's content."""
    if not isinstance(content, Mapping) or not all(type(name) is str for name in content):
        raise MalformedObjectError(f"{path} holds no state dict, but a {type(content).__name__}")
    if content.keys() >= _SHAPE:
        return _of_view(content, path)
    if is_state_dict(content):
        return Incoming(path, "torch", {"model": weights(content)})
    return _of_parts(dict(content), path)


def is_state_dict(value: object) -> bool:
    """Return whether a value is a dict of named tensors, with or without further state."""
    if not isinstance(value, Mapping) or not value:
        return False
    tensors = sum(isinstance(item, torch.Tensor) for item in value.values())
    return tensors > 0 and not any(isinstance(item, Mapping) for item in value.values())


def weights(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with the names of the bare model."""
    short = stripped(state_dict)
    return {short[name]: value for name, value in state_dict.items()}


def opaque(optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's state in the form for an unknown class with unknown names."""
    return {"class": None, "opaque": optimizer}


def _of_parts(content: dict[str, Any], path: str) -> Incoming:
    state: dict[str, Any] = {}
    notes: list[str] = []
    for part, spellings in _PARTS.items():
        spelling = next((s for s in spellings if isinstance(content.get(s), Mapping | list)), None)
        if spelling is None:
            continue
        value = content.pop(spelling)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if part == "model":
            if not is_state_dict(value):
                raise MalformedObjectError(f"{path}: {spelling!r} is no state dict of a model")
            value = weights(value)
        state[part] = opaque(value) if part == "optimizer" and _is_opaque(value) else value
    if not state:
        raise MalformedObjectError(
            f"{path} has no part that is known as a model's or an optimizer's: "
            f"{', '.join(map(repr, list(content)[:10]))}"
        )
    told = (as_step(content.get(name)) for name in _STEPS)
    step = next((each for each in told if each is not None), step_of_name(path))
    if step is None:
        step = as_step(content.get("epoch"))
    hparams: dict[str, Any] = {}
    for name in _HPARAMS:
        if isinstance(content.get(name), Mapping) and _is_plain(content[name]):
            hparams |= content.pop(name)
    metrics: dict[str, int | float] = {}
    message = content.pop("message", "")
    meta = content.get("meta")
    if isinstance(meta, Mapping) and "ckpt_id" in meta:  # an export of ours
        del content["meta"]
        message = meta.get("message")
        metrics |= meta.get("metrics", {})
    if isinstance(content.pop("rng", None), Mapping):
        notes.append(_GENERATORS)
    for name, value in content.items():
        if type(value) in (int, float):
            if name != "step":
                metrics[name] = value
        elif value is not None:
            _register(state, notes, name, value)
    return Incoming(
        path,
        "torch",
        state,
        step,
        metrics,
        hparams,
        message if type(message) is str else "",
        tuple(notes),
    )


def _of_view(content: Mapping[str, Any], path: str) -> Incoming:
    """Read a file in the form of view files and of the published package's anchors."""
    data = content["data"]
    if content["is_delta"] or not isinstance(data, Mapping):
        raise MalformedObjectError(
            f"{path} is a delta of the published gradient-desc; import its repo's folder"
        )
    state: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in data.items():
        if name in ("step", "meta", "distributed", "amp") or value is None:
            continue
        if name == "model":
            state[name] = weights(value)
        elif name == "optimizer":
            state[name] = opaque(value)
        elif name == "scheduler":
            state[name] = value
        elif name == "rng":
            notes.append(_GENERATORS)
        else:
            wrapped = isinstance(value, Mapping) and value.keys() == {"version", "state"}
            inner = value["state"] if wrapped else value
            if inner is not None:
                _register(state, notes, name, inner)
    meta = data.get("meta")
    message = meta.get("message") if isinstance(meta, Mapping) else None
    step = as_step(data.get("step"))
    said = message if type(message) is str else ""
    return Incoming(path, "torch", state, step, message=said, notes=tuple(notes))


def _register(state: dict[str, Any], notes: list[str], name: str, value: Any) -> None:
    """Add an unknown part under a free name."""
    taken = name
    while taken in RESERVED or taken in state:
        taken = f"{taken}_state"
    if taken != name:
        notes.append(f"the state {name!r} is called {taken!r} here")
    state[taken] = value


def _is_opaque(value: Any) -> bool:
    """Return whether an optimizer's state is in torch's form, not in the form of a commit."""
    return not (isinstance(value, Mapping) and "class" in value and "opaque" in value)


def _is_plain(value: Mapping[str, Any]) -> bool:
    plain = (bool, int, float, str, type(None))
    return all(
        type(key) is str
        and (
            type(item) in plain
            or (type(item) in (list, tuple) and all(type(each) in plain for each in item))
        )
        for key, item in value.items()
    )
