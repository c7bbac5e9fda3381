"""Folders of torch.distributed.checkpoint: the pieces of all ranks, assembled.

Their index, ``.metadata``, is a pickle. It is read with stand-ins for the few classes that it may
name, so nothing is imported, and no rank or process group is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final

import torch

from gradient.errors import IntegrityError, MalformedObjectError, UnsupportedValueError
from gradient.integrations import pickle_reader, torch_file, untrusted_pickle
from gradient.integrations.imported_checkpoint import Incoming
from gradient.integrations.pickle_reader import Machine, Record
from gradient.state.tensors import DTYPES
from gradient.storage import fs

INDEX: Final = ".metadata"

_MOST_INDEX: Final = 256 << 20
_MOST_PATH: Final = 64
_SLACK: Final = 1 << 20

_METADATA: Final = "torch.distributed.checkpoint.metadata."
_CLASSES: Final = (
    f"{_METADATA}Metadata",
    f"{_METADATA}MetadataIndex",
    f"{_METADATA}TensorStorageMetadata",
    f"{_METADATA}TensorProperties",
    f"{_METADATA}ChunkStorageMetadata",
    f"{_METADATA}BytesStorageMetadata",
    f"{_METADATA}StorageMeta",
    f"{_METADATA}_MEM_FORMAT_ENCODING",
    "torch.distributed.checkpoint.filesystem._StorageInfo",
    "torch.distributed.checkpoint.filesystem._StoragePrefix",
    "torch.serialization._get_layout",
    "torch.storage.UntypedStorage",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
)
"""The names that an index may contain besides dtypes and `_PLAIN`; each becomes a record of its
fields.
"""


def _size(values: Any = ()) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(type(v) is int and v >= 0 for v in values):
        raise MalformedObjectError("a size is made of whole numbers")
    return tuple(values)


def _mapping(*_: Any) -> dict[Any, Any]:
    return {}


_PLAIN: Final[dict[str, Callable[..., Any]]] = {
    "torch.Size": _size,
    "collections.OrderedDict": _mapping,
}

ALLOWED: Final[dict[str, Any]] = {
    **{name: pickle_reader.stand_in(name) for name in _CLASSES},
    **{f"torch.{name}": dtype for name, dtype in DTYPES.items()},
    **_PLAIN,
}
"""Every name that an index may contain, and its stand-in."""


def is_distributed(path: str) -> bool:
    """Return whether torch.distributed.checkpoint wrote a folder."""
    return fs.is_file(_inside(path, INDEX))


def read(path: str) -> Incoming:
    """Read a whole checkpoint.

    Raises IntegrityError or MalformedObjectError for damage, and UnsupportedValueError if the index
    or a part needs code to be read.
    """
    folder = _Folder(path)
    content: dict[str, Any] = {}
    for name, value in folder.parts():
        _place(content, folder.paths.get(name, (name,)), value, path)
    content = {name: _lists(part) for name, part in content.items()}
    if isinstance(content.get("optimizer"), Mapping):
        content["optimizer"] = _numbered(content["optimizer"])
    found = torch_file.arrange(content, path)
    state = dict(found.state)
    if "optimizer" in state:
        state["optimizer"] = _by_name(state["optimizer"])
    return Incoming(
        path,
        "distributed",
        state,
        found.step,
        found.metrics,
        found.hparams,
        found.message,
        found.notes,
    )


class _Folder:
    """One checkpoint: its index, and the files of the pieces."""

    def __init__(self, path: str) -> None:
        self._path = path
        index = _inside(path, INDEX)
        raw = fs.read_file(index, limit=_MOST_INDEX)
        metadata = pickle_reader.run(index, Machine(raw, self._find), raw)
        fields = _fields(metadata, "Metadata", index)
        described = fields.get("state_dict_metadata")
        stored = fields.get("storage_data")
        if not isinstance(described, dict) or not isinstance(stored, dict):
            raise MalformedObjectError(f"{index} is no index of a distributed checkpoint")
        self._described = described
        self._places = dict(self._read_places(stored))
        planned = fields.get("planner_data")
        self.paths = {
            name: keys
            for name, keys in (planned if isinstance(planned, dict) else {}).items()
            if isinstance(keys, tuple) and 0 < len(keys) <= _MOST_PATH
        }
        """The path of each part in the nested state."""
        names = fs.names(path)
        self._held = sum(fs.size(_inside(path, name)) or 0 for name in names)

    def parts(self) -> Iterator[tuple[str, Any]]:
        """Yield every tensor and value under its flat name."""
        claimed = 0
        for name, description in self._described.items():
            kind = getattr(description, "name", "").rpartition(".")[2]
            if kind == "BytesStorageMetadata":
                yield (
                    name,
                    untrusted_pickle.load_bytes(self._bytes(name, None), f"{self._path}: {name}"),
                )
                continue
            fields = _fields(description, "TensorStorageMetadata", self._path)
            dtype, shape = self._properties(fields), _size(fields.get("size"))
            claimed += math.prod(shape) * dtype.itemsize
            if claimed > self._held + _SLACK:
                raise IntegrityError(f"{self._path} claims more memory than its files hold")
            yield name, self._tensor(name, dtype, shape, fields.get("chunks"))

    def _find(self, name: str) -> Any:
        found = ALLOWED.get(name)
        if found is None:
            raise UnsupportedValueError(
                _inside(self._path, INDEX),
                f"holds objects that need code to be read: {name}",
                "Save it again with the file-system writer of torch.distributed.checkpoint",
            )
        return found

    def _read_places(
        self, stored: Mapping[Any, Any]
    ) -> Iterator[tuple[tuple[str, tuple[int, ...] | None], tuple[str, int, int]]]:
        for key, value in stored.items():
            index = _fields(key, "MetadataIndex", self._path)
            info = _fields(value, "_StorageInfo", self._path)
            file, start, length = (info.get(n) for n in ("relative_path", "offset", "length"))
            if (
                type(file) is not str
                or PurePath(file).name != file
                or type(index["fqn"]) is not str
            ):
                raise MalformedObjectError(f"{self._path}: a part lies outside of the folder")
            if type(start) is not int or type(length) is not int or min(start, length) < 0:
                raise MalformedObjectError(f"{self._path}: a part without a place")
            if info.get("transform_descriptors"):
                raise UnsupportedValueError(
                    index["fqn"], "was written with a transformation", "Save it without"
                )
            yield (index["fqn"], index.get("offset")), (file, start, length)

    def _properties(self, fields: Mapping[str, Any]) -> torch.dtype:
        properties = fields.get("properties")
        state = getattr(properties, "state", None)
        dtype = state[0] if isinstance(state, tuple) and state else None
        if isinstance(state, dict):
            dtype = state.get("dtype")
        if not isinstance(dtype, torch.dtype):
            raise MalformedObjectError(f"{self._path}: a tensor without a dtype")
        return dtype

    def _tensor(
        self, name: str, dtype: torch.dtype, shape: tuple[int, ...], chunks: Any
    ) -> torch.Tensor:
        whole = torch.zeros(shape, dtype=dtype)
        covered = torch.zeros(shape, dtype=torch.bool)
        for chunk in chunks if isinstance(chunks, list) else []:
            fields = _fields(chunk, "ChunkStorageMetadata", self._path)
            offsets, sizes = _size(fields.get("offsets")), _size(fields.get("sizes"))
            piece = untrusted_pickle.load_bytes(self._bytes(name, offsets), f"{self._path}: {name}")
            ends = [offset + size for offset, size in zip(offsets, sizes, strict=False)]
            if (
                not isinstance(piece, torch.Tensor)
                or piece.dtype != dtype
                or tuple(piece.shape) != sizes
                or not len(offsets) == len(sizes) == len(shape)
                or any(end > size for end, size in zip(ends, shape, strict=True))
            ):
                raise IntegrityError(f"{self._path}: a piece of {name!r:.80} has the wrong form")
            spans = tuple(slice(o, e) for o, e in zip(offsets, ends, strict=True))
            whole[spans] = piece
            covered[spans] = True
        if not covered.all():
            raise IntegrityError(f"{self._path}: pieces of {name!r:.80} are missing")
        return whole

    def _bytes(self, name: str, offset: tuple[int, ...] | None) -> bytes:
        place = self._places.get((name, offset)) or self._places.get((name, None))
        if place is None:
            raise IntegrityError(f"{self._path}: nothing says where {name!r:.80} lies")
        file, start, length = place
        path = _inside(self._path, file)
        held = fs.size(path)
        if held is None or start + length > held:
            raise IntegrityError(f"{path} is missing or too short")
        raw = bytearray(length)
        with fs.open_file(path) as opened:
            if opened.read_into(start, memoryview(raw)) != length:
                raise IntegrityError(f"{path} is shorter than it was")
        return bytes(raw)


def _fields(record: Any, kind: str, path: str) -> dict[str, Any]:
    """Return the fields of an object."""
    if isinstance(record, Record) and record.name.rpartition(".")[2] == kind:
        if isinstance(record.state, dict):
            return record.state
        if record.state is None:
            return {}
    raise MalformedObjectError(f"{path}: not the fields of a {kind}")


def _place(content: dict[str, Any], keys: tuple[Any, ...], value: Any, path: str) -> None:
    """Put a value at its path in the nested state; lists are dicts of numbers at this stage."""
    node = content
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise MalformedObjectError(f"{path}: two parts at one place")
    node[keys[-1]] = value


def _lists(value: Any) -> Any:
    """Convert dicts with the keys 0, 1, 2, … to lists."""
    if not isinstance(value, dict):
        return value
    items = {key: _lists(item) for key, item in value.items()}
    if items and all(type(key) is int for key in items):
        return [items[key] for key in sorted(items)]
    return items


def _numbered(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the numbers of parameters, which the index spells as text, back to ints."""
    state = optimizer.get("state")
    if isinstance(state, Mapping) and all(type(k) is str and k.isdecimal() for k in state):
        return {**optimizer, "state": {int(key): value for key, value in state.items()}}
    return dict(optimizer)


def _by_name(optimizer: Any) -> Any:
    """Convert an optimizer that names its parameters, as sharded training writes it."""
    inner = optimizer.get("opaque") if isinstance(optimizer, Mapping) else None
    if not isinstance(inner, Mapping) or inner.keys() != {"state", "param_groups"}:
        return optimizer
    groups, state = inner["param_groups"], inner["state"]
    named = isinstance(groups, list) and all(
        isinstance(group, Mapping)
        and isinstance(group.get("params"), list)
        and all(type(name) is str for name in group["params"])
        for group in groups
    )
    if not named or not isinstance(state, Mapping):
        return optimizer
    ordered = {name: state[name] for name in sorted(state)}
    return {"class": None, "param_groups": groups, "state": ordered}


def _inside(folder: str, name: str) -> str:
    return str(PurePath(folder, name))
