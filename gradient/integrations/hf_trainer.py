"""Folders ``checkpoint-N`` of transformers' Trainer."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import torch

from gradient.errors import GradientError, IntegrityError, MalformedObjectError
from gradient.integrations import torch_file, untrusted_pickle
from gradient.integrations.imported_checkpoint import Incoming, as_step, step_of_name
from gradient.state import rng
from gradient.storage import fs
from gradient.view import safetensors

_FOLDER: Final = re.compile(r"checkpoint-([0-9]{1,15})")
_WEIGHTS: Final = (
    "model.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "adapter_model.bin",
)
_INDEXES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_STATE: Final = "trainer_state.json"
_ABOUT: Final = "commit.json"
_MOST_JSON: Final = 256 << 20
_OWN_FILES: Final = frozenset(
    {"optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", "training_args.bin"}
)
_KEPT: Final = "they are files of other programs: keep them beside"


def is_checkpoint(path: str) -> bool:
    """Return whether a folder holds one checkpoint: it has weights under a known name."""
    return any(fs.is_file(_inside(path, name)) for name in (*_WEIGHTS, *_INDEXES))


def checkpoints(path: str) -> list[str]:
    """Return the folders ``checkpoint-N`` in a folder, ordered by number."""
    found = [(int(match[1]), name) for name in fs.names(path) if (match := _FOLDER.fullmatch(name))]
    return [_inside(path, name) for _, name in sorted(found) if is_checkpoint(_inside(path, name))]


def read(path: str) -> Incoming:
    """Read one checkpoint; raise IntegrityError, UnsupportedValueError or MalformedObjectError."""
    notes: list[str] = []
    state: dict[str, Any] = {"model": torch_file.weights(_weights(path))}
    optimizer, scheduler = _inside(path, "optimizer.pt"), _inside(path, "scheduler.pt")
    if fs.is_file(optimizer):
        state["optimizer"] = torch_file.opaque(untrusted_pickle.load(optimizer))
    if fs.is_file(scheduler):
        state["scheduler"] = untrusted_pickle.load(scheduler)
    if fs.is_file(_inside(path, "scaler.pt")):
        state["scaler"] = untrusted_pickle.load(_inside(path, "scaler.pt"))
    generators = _inside(path, "rng_state.pth")
    if fs.is_file(generators):
        try:
            state["rng"] = _generators(untrusted_pickle.load(generators))
        except (GradientError, KeyError, TypeError, ValueError) as error:
            notes.append(f"{path}: the generators stay behind: {error}")
    about = _document(_inside(path, _ABOUT))
    if about is None:
        others = [name for name in fs.names(path) if name.endswith((".pt", ".pth", ".bin"))]
        left = [name for name in others if name not in (*_OWN_FILES, *_WEIGHTS)]
        left += [name for name in others if name == "training_args.bin"]
        left = [name for name in left if not name.startswith("pytorch_model-")]
        if left:
            notes.append(f"{path}: {', '.join(sorted(left))} stay behind: {_KEPT}")
    else:
        _take_components(path, about, state, notes)
    told = about or _document(_inside(path, _STATE)) or {}
    step = as_step(told.get("global_step", told.get("step")))
    if step is None:
        step = step_of_name(path)
    message = told.get("message")
    metrics = _metrics(told)
    said = message if type(message) is str else ""
    return Incoming(path, "trainer", state, step, metrics, {}, said, tuple(notes))


def _take_components(
    path: str, about: Mapping[str, Any], state: dict[str, Any], notes: list[str]
) -> None:
    """Add the additional parts of an exported commit."""
    for file in fs.names(path):
        name = file.removesuffix(".pt")
        if not file.endswith(".pt") or name in state:
            continue
        if name == "rng":
            notes.append(f"{path}: the generators stay behind")
        else:
            state[name] = untrusted_pickle.load(_inside(path, file))


def _weights(path: str) -> dict[str, Any]:
    for name in _INDEXES:
        index = _document(_inside(path, name))
        if index is not None:
            return _sharded(path, index)
    for name in _WEIGHTS:
        if fs.is_file(_inside(path, name)):
            return _read_weights(_inside(path, name))
    raise MalformedObjectError(f"{path} holds no weights under a name that is known")


def _sharded(path: str, index: Mapping[str, Any]) -> dict[str, Any]:
    """Assemble weights that are split over several files."""
    where = index.get("weight_map")
    if not isinstance(where, dict) or not all(type(file) is str for file in where.values()):
        raise MalformedObjectError(f"{path}: the index of the weights names no files")
    found: dict[str, Any] = {}
    for file in dict.fromkeys(where.values()):
        if PurePath(file).name != file:
            raise MalformedObjectError(f"{path}: a part lies outside of the folder")
        held = _read_weights(_inside(path, file))
        found |= {name: value for name, value in held.items() if where.get(name) == file}
    missing = [name for name in where if name not in found]
    if missing:
        raise IntegrityError(f"{path}: weights are missing, {missing[0]!r:.80} for one")
    return {name: found[name] for name in where}


def _read_weights(path: str) -> dict[str, Any]:
    if path.endswith(".safetensors"):
        # Tied names stand for one tensor, so that the memory is shared again.
        return dict(safetensors.load(safetensors.with_aliases(*safetensors.open_tensors(path))))
    content = untrusted_pickle.load(path)
    if not torch_file.is_state_dict(content):
        raise MalformedObjectError(f"{path} is no state dict of a model")
    return dict(content)


def _metrics(told: Mapping[str, Any]) -> dict[str, int | float]:
    """Return the newest value of each metric that the trainer logged, and a commit's metrics."""
    found: dict[str, int | float] = {}
    history = told.get("log_history")
    for entry in history if isinstance(history, list) else []:
        if isinstance(entry, dict):
            found |= {k: v for k, v in entry.items() if type(v) in (int, float) and k != "step"}
    best = told.get("best_metric")
    if type(best) is float and math.isfinite(best):
        found["best_metric"] = best
    said = told.get("metrics")
    for name, text in said.items() if isinstance(said, dict) else ():
        try:
            found[name] = int(text) if re.fullmatch(r"-?[0-9]+", str(text)) else float(text)
        except (TypeError, ValueError):
            continue
    return found


def _generators(saved: Any) -> dict[str, Any]:
    """Convert the generators' states; raise KeyError, TypeError or ValueError."""
    version, words, gauss = saved["python"]
    kind, keys, position, has_gauss, cached = saved["numpy"]
    if kind != "MT19937":
        raise ValueError(f"NumPy's generator was a {kind!r:.40}")
    state: dict[str, Any] = {
        "python": {
            "version": version,
            "state": torch.tensor(words, dtype=torch.int64).to(torch.uint32),
            "gauss": gauss,
        },
        "numpy": {
            "bit_generator": kind,
            "state": {
                "key": torch.from_numpy(np.asarray(keys, dtype=np.uint32).copy()),
                "pos": int(position),
            },
            "has_gauss": int(has_gauss),
            "gauss": float(cached),
        },
        "torch": saved["cpu"],
    }
    cuda = saved.get("cuda")
    if isinstance(cuda, torch.Tensor):
        state["cuda"] = [cuda]
    elif isinstance(cuda, list) and cuda:
        state["cuda"] = cuda
    rng.check(state)
    return state


def _document(path: str) -> dict[str, Any] | None:
    if not fs.is_file(path):
        return None
    try:
        value = json.loads(fs.read_file(path, limit=_MOST_JSON))
    except (ValueError, RecursionError) as error:
        raise MalformedObjectError(f"{path} is damaged ({error}); restore it from a copy") from None
    return value if isinstance(value, dict) else {}


def _inside(folder: str, name: str) -> str:
    return str(PurePath(folder, name))
