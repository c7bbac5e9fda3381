"""The payload of a commit in the published package's ``.pt`` files.

It has the form that readers expect: torch's numbered optimizer state, the generators in the form of
torch and Python, and each registered state as a top-level key. Values are converted to types that a
plain `torch.load` accepts, if the conversion is exact. A registered state that cannot be converted
is left out, with a log line.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch

from gradient.checkpoint.reader import component_entries, component_tree, read_state
from gradient.errors import UnsupportedValueError
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.objects.tree import ValueTree
from gradient.repo.repository import Repository
from gradient.state.live_objects import BUILT_IN, RESERVED
from gradient.state.optimizer import to_state_dict

_LOG = logging.getLogger("gradient")

_KEPT: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray}
    | {torch.Size, torch.dtype, torch.device}
)
_REMEDY = "The store has it; only this file goes without"


def read(repo: Repository, oid: Oid) -> dict[str, Any]:
    """Return the payload of a commit, read from the store and verified; nothing is converted.

    Raises ForgottenError if a part of its state was dropped.
    """
    repo.check_kept(oid)
    commit = repo.read_commit(oid)
    return build(commit, oid, complete(repo, commit, None), path="")


def complete(
    repo: Repository, commit: CommitRecord, state: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """Return a commit's whole state, reading the components that `state` lacks."""
    state = {} if state is None else state
    entries = component_entries(repo.store, commit.tree)
    missing = [name for name in entries if name not in state]
    if not missing:
        return state
    return {**state, **read_state(repo.store, commit.tree, components=missing)}


def size(repo: Repository, commit: CommitRecord, state: Mapping[str, Any] | None) -> int:
    """Return the approximate size of a commit's state in bytes, without reading its chunks."""
    state = {} if state is None else state
    entries = component_entries(repo.store, commit.tree)
    stored = sum(_stored_bytes(repo, node) for name, node in entries.items() if name not in state)
    return nbytes(state) + stored


def build(commit: CommitRecord, oid: Oid, state: Mapping[str, Any], *, path: str) -> dict[str, Any]:
    """Arrange a captured state as a payload; `path` is the path of its file."""
    revision = commit.revision
    optimizer = state.get("optimizer")
    data = {
        "step": commit.step,
        "model": state.get("model"),
        "optimizer": None if optimizer is None else to_state_dict(optimizer),
        "scheduler": state.get("scheduler"),
        "rng": _generators(state.get("rng")),
        "amp": None,
        "distributed": None,
        "external": {"version": None, "state": None},
        "meta": {
            "branch": commit.branch,
            "message": commit.message,
            "ckpt_id": str(oid),
            "checkpoint_ref": revision,
            "created_at": commit.time,
            "metrics": dict(commit.metrics),
        },
    }
    for name, value in state.items():
        if name not in BUILT_IN:
            data[name] = {"version": None, "state": value}
    return {
        "data": data,
        "is_delta": False,
        "anchor_id": str(oid),
        "anchor_ref": revision,
        "anchor_path": path,
    }


def portable(payload: dict[str, Any]) -> dict[str, Any]:
    """Convert a payload to types that `torch.load` accepts without safe globals.

    A registered state that cannot be converted exactly is left out, with a log line. Raises
    UnsupportedValueError if model, optimizer, scheduler or generators cannot be converted.
    """
    convert = _Converter()
    data = {}
    for name, value in payload["data"].items():
        try:
            data[name] = convert(value, name)
        except UnsupportedValueError as error:
            if name in RESERVED:
                raise
            _LOG.warning("left out of the view of %s: %s", payload["anchor_ref"], error)
    convert.shrink(data)
    return {**payload, "data": data}


def nbytes(value: Any) -> int:
    """Return the size in bytes of all tensors and arrays in a state; shared memory counts once."""
    seen: dict[int, int] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            seen[storage.data_ptr()] = max(seen.get(storage.data_ptr(), 0), item.nbytes)
        elif isinstance(item, np.ndarray):
            seen[id(item)] = item.nbytes
        elif isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack.extend(item)
    return sum(seen.values())


def _stored_bytes(repo: Repository, node: Json) -> int:
    """Return the sum of the content lengths in trees, without inline values."""
    total = 0
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            length = item.get("nbytes")
            total += length if type(length) is int else 0
            if item.keys() == {"tree"}:
                tree = component_tree(repo.store, item)
                stack.extend(tree.storages)
                stack.extend([tree.value] if isinstance(tree, ValueTree) else tree.entries.values())
            else:
                stack.extend(value for value in item.values() if isinstance(value, (dict, list)))
    return total


def _generators(captured: Any) -> dict[str, Any] | None:
    if captured is None:
        return None
    python = captured["python"]
    return {
        "torch": captured["torch"],
        "cuda": captured.get("cuda"),
        "python": (python["version"], tuple(python["state"].tolist()), python["gauss"]),
        "numpy": captured.get("numpy"),
    }


class _Converter:
    """Converts values to types that a restricted unpickler knows; shared memory stays shared."""

    def __init__(self) -> None:
        self._tensors: dict[int, torch.Tensor] = {}
        self._alive: list[Any] = []

    def __call__(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind in _KEPT:
            return value
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if kind in _MAPPINGS:
            pairs = ((self._key(k, path), self(v, f"{path}.{k}")) for k, v in value.items())
            return _MAPPINGS[kind](pairs)
        if kind in (list, tuple):
            return kind([self(item, f"{path}[{i}]") for i, item in enumerate(value)])
        if kind is deque and value.maxlen is None:
            return [self(item, f"{path}[{i}]") for i, item in enumerate(value)]
        if kind in (set, frozenset):
            return {self._key(item, path) for item in value}
        if isinstance(value, np.generic):
            return _scalar(value, path)
        if kind is np.ndarray:
            return _array(value, path)
        raise _unsupported(path, value)

    def _key(self, key: Any, path: str) -> Any:
        """Convert a key or a member of a set, which must stay hashable."""
        if type(key) is frozenset:
            raise _unsupported(path, key)
        if type(key) is tuple:
            return tuple(self._key(item, path) for item in key)
        return self(key, path)

    def _tensor(self, value: torch.Tensor) -> torch.Tensor:
        found = self._tensors.get(id(value))
        if found is None:
            found = value.detach().cpu().resolve_conj().resolve_neg()
            self._tensors[id(value)] = found
            self._alive.append(value)  # its id stays its own
        return found

    def shrink(self, data: dict[str, Any]) -> None:
        """Copy tensors that use a small part of their storage: torch would save all of it."""
        by_storage: dict[int, list[int]] = {}
        for key, tensor in self._tensors.items():
            by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(key)
        copies = {}
        for keys in by_storage.values():
            tensor = self._tensors[keys[0]]
            if len(keys) == 1 and tensor.untyped_storage().nbytes() > tensor.nbytes:
                copies[id(tensor)] = tensor.clone()
        if copies:
            for name in data:
                data[name] = _swap(data[name], copies)


def _swap(value: Any, copies: Mapping[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return copies.get(id(value), value)
    kind = type(value)
    if kind in _MAPPINGS:
        return _MAPPINGS[kind]((key, _swap(item, copies)) for key, item in value.items())
    if kind in (list, tuple):
        return kind([_swap(item, copies) for item in value])
    return value


def _counter(pairs: Any) -> Counter[Any]:
    return Counter(dict(pairs))


_MAPPINGS: Final[dict[type, Any]] = {
    dict: dict,
    OrderedDict: OrderedDict,
    defaultdict: dict,
    Counter: _counter,
}
"""Mappings with their converted type; a defaultdict becomes a dict with the same content."""


def _scalar(value: np.generic, path: str) -> Any:
    plain = value.item()
    if type(plain) not in _KEPT or isinstance(value, np.longdouble | np.clongdouble):
        raise _unsupported(path, value)
    return plain


def _array(value: np.ndarray[Any, Any], path: str) -> torch.Tensor:
    native = value.astype(value.dtype.newbyteorder("="), order="C", copy=True)
    try:
        return torch.from_numpy(native)
    except TypeError:
        raise _unsupported(path, value) from None


def _unsupported(path: str, value: object) -> UnsupportedValueError:
    return UnsupportedValueError(path, f"plain torch.load takes no {type(value).__name__}", _REMEDY)
