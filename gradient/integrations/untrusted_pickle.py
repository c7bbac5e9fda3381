"""Reading an untrusted ``.pt`` file: as data, within bounds.

`torch.load` with ``weights_only`` refuses calls that are not known to be safe. It checks neither
the integrity of the archive nor the memory that a small file may claim. This module therefore
checks the archive's structure, its checksums and the names in its pickle before the load, and the
depth and size of the content after it.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import IO, Any, Final

import numpy as np
import torch

from gradient.errors import IntegrityError, MalformedObjectError, UnsupportedValueError
from gradient.integrations.pickle_reader import SavedMachine
from gradient.storage import fs

_OVERHEAD: Final = 1024
"""Bytes that an entry may take in addition to its content: headers and alignment."""

MAX_DEPTH: Final = 100
MAX_GROWTH: Final = 4
"""The maximum size of a state, as a multiple of the file's size (expanded tensors)."""
_SLACK: Final = 1 << 20
_MAX_PICKLE: Final = 256 << 20

_PLAIN: Final = frozenset(
    {"collections.OrderedDict", "collections.Counter", "_codecs.encode"}
    | {f"builtins.{name}" for name in ("set", "complex", "bytearray")}
    | {f"__builtin__.{name}" for name in ("set", "complex", "bytearray")}
)

# What arrays and scalars are pickled by; the module's name changed between versions of NumPy.
_ARRAY, _SCALAR = (value.__reduce__()[0] for value in (np.zeros(0), np.float64(0)))
EXTRA_GLOBALS: Final[list[Any]] = [
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(code)) for code in "?bBhHiIqQefdFD"),
]
"""The names allowed in addition to torch's own list: arrays of numbers."""


def load(path: str) -> Any:
    """Return the content of a ``.pt`` file, with tensors on the CPU.

    Raises IntegrityError for a damaged or dishonest file, and UnsupportedValueError for one that
    needs code to be read. Never falls back to a load that would run the code.
    """
    size = fs.size(path)
    if size is None:
        raise IntegrityError(f"{path} is missing")
    return _load(path, path, size)


def load_bytes(raw: bytes, name: str) -> Any:
    """Return the content of a ``.pt`` file in memory; `name` is its name in errors."""
    return _load(name, io.BytesIO(raw), len(raw))


def _load(path: str, source: str | IO[bytes], size: int) -> Any:
    _check_archive(path, source, size)
    if not isinstance(source, str):
        source.seek(0)
    try:
        with torch.serialization.safe_globals(EXTRA_GLOBALS):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises whatever the damage led to
        raise IntegrityError(f"{path} cannot be read: {_reason(error)}") from None
    _check_content(path, content, MAX_GROWTH * size + _SLACK)
    return content


def _reason(error: Exception) -> str:
    """Return torch's message, without its advice to load the file unsafely."""
    text = str(error)
    _, _, found = text.partition("WeightsUnpickler error:")
    lines = (found or text).strip().splitlines()
    return lines[0] if lines else repr(error)


def _check_archive(path: str, source: str | IO[bytes], size: int) -> None:
    """Check the structure, the checksums, and the operations of the pickle."""
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) != len(names):
                raise IntegrityError(f"{path} has two entries of one name")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise IntegrityError(f"{path} has compressed entries, which torch does not write")
            if not entries or min(entry.header_offset for entry in entries) != 0:
                raise IntegrityError(f"{path} does not begin with its first entry")
            content = sum(entry.file_size for entry in entries)
            if not content <= size <= content + _OVERHEAD * (len(entries) + 1):
                raise IntegrityError(f"{path} is longer or shorter than its entries")
            broken = archive.testzip()
            if broken is not None:
                raise IntegrityError(f"{path} is damaged: {broken} fails its checksum")
            pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE:
                raise IntegrityError(f"{path} is not a file that torch.save wrote")
            folder = pickles[0].filename.removesuffix("data.pkl") + "data/"
            held = {
                entry.filename.removeprefix(folder): entry.file_size
                for entry in entries
                if entry.filename.startswith(folder)
            }
            _check_pickle(path, archive.read(pickles[0]), held)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:
        # A RuntimeError is for an encrypted entry, or one that no zipfile knows how to read.
        if isinstance(error, IntegrityError):
            raise
        raise IntegrityError(f"{path} is not a file that torch.save wrote: {error}") from None


def _check_pickle(path: str, pickle: bytes, held: Mapping[str, int]) -> None:
    """Name everything besides data that the pickle asks for, before torch stops at the first.

    `held` are the archive's storages and their lengths.
    """
    machine = SavedMachine(path, held)
    try:
        machine.run(pickle)
    except IntegrityError:
        _check_names(path, machine.names)  # which says more, if it was for one of them
        raise
    _check_names(path, machine.names)


def _check_names(path: str, names: set[str]) -> None:
    allowed = _PLAIN | {_name(item) for item in EXTRA_GLOBALS}
    foreign = sorted(name for name in names if name not in allowed and not _is_torch(name))
    if foreign:
        raise UnsupportedValueError(
            path,
            f"holds objects that need code to be read: {', '.join(foreign)}",
            "Save it again with plain data: of a model its state_dict(), of a registered state "
            "what its getter can say in numbers, texts and tensors",
        )


def _name(item: Any) -> str:
    if isinstance(item, tuple):
        return str(item[1])
    return f"{item.__module__}.{item.__qualname__}"


def _is_torch(name: str) -> bool:
    # Which of torch's own names are harmless, torch.load knows best.
    return name.startswith("torch.")


def _check_content(path: str, content: Any, most: int) -> None:
    seen: set[int] = set()
    stack = [(content, 1)]
    total = 0
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise MalformedObjectError(f"{path} is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, torch.Tensor | np.ndarray):
            if isinstance(value, np.ndarray) and value.dtype.hasobject:
                raise MalformedObjectError(f"{path} has an array of objects")
            total += value.nbytes
            if total > most:
                raise IntegrityError(f"{path} claims more memory than a file of its size holds")
        if isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            children = [*value, *value.values()] if isinstance(value, Mapping) else [*value]
            stack.extend((child, depth + 1) for child in children)
