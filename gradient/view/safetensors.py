"""Reader and writer of safetensors files, one tensor at a time.

The format: eight bytes with the header's length (little-endian), the header (JSON: names to dtype,
shape and offsets; texts under ``__metadata__``), then the tensors' bytes in C order, without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from gradient.errors import IntegrityError, UnsupportedValueError
from gradient.state.tensors import ITEM_SIZES, TensorSpec, allocate, writable_memory
from gradient.storage import fs

if TYPE_CHECKING:
    import torch
    from typing_extensions import Buffer

DTYPES: Final[dict[str, str]] = {
    "BOOL": "bool",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "C64": "complex64",
}
"""The dtype names of the format, and ours."""

_NAMES: Final = {ours: theirs for theirs, ours in DTYPES.items()}
_METADATA: Final = "__metadata__"
_FORMAT: Final = ("format", "pt")
"""The entry in the metadata of torch's files that is not a tied weight."""
_MOST_HEADER: Final = 100 << 20
_ALIGNMENT: Final = 8


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A tensor to write."""

    dtype: str
    """Its element type, as we call it."""
    shape: tuple[int, ...]
    """The size of each dimension."""
    content: Callable[[], Iterable[Buffer]]
    """Yields its bytes in C order, piece by piece."""

    @property
    def nbytes(self) -> int:
        """The length of its content."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor in a file; `load` reads it."""

    dtype: str
    """Its element type, as we call it."""
    shape: tuple[int, ...]
    """The size of each dimension."""
    path: str
    """The file."""
    start: int
    """The offset of its bytes in the file."""

    def load(self) -> torch.Tensor:
        """Read the tensor; raises IntegrityError if the file was cut."""
        tensor = allocate(TensorSpec(self.dtype, self.shape))
        memory = writable_memory(tensor)
        with fs.open_file(self.path) as file:
            if file.read_into(self.start, memory) != memory.nbytes:
                raise IntegrityError(f"{self.path} is shorter than it was")
        return tensor


def write(out: IO[bytes], tensors: Mapping[str, Outgoing], metadata: Mapping[str, str]) -> None:
    """Write a file; raises UnsupportedValueError for a dtype or name that the format lacks."""
    # The widest first, so that the offset of each tensor is a multiple of its item size.
    names = sorted(tensors, key=lambda name: (-ITEM_SIZES[tensors[name].dtype], name))
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES or name == _METADATA:
            raise UnsupportedValueError(
                name,
                f"a safetensors file takes no tensor of dtype {tensor.dtype} of this name",
                "Export to .pt instead",
            )
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % _ALIGNMENT)
    out.write(len(raw).to_bytes(8, "little") + raw)
    for name in names:
        for piece in tensors[name].content():
            out.write(piece)


def open_tensors(path: str) -> tuple[dict[str, FileTensor], dict[str, str]]:
    """Return the tensors of a file by name, in the order of their bytes, and its metadata.

    Raises IntegrityError if a name occurs twice, or if the tensors do not fill the file without gap
    and overlap. Names are never used as paths.
    """
    raw, size = _read_header(path)
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is not a safetensors file: {error}") from None
    if type(header) is not dict:
        raise IntegrityError(f"{path} is not a safetensors file: its header is no object")
    metadata = header.pop(_METADATA, {})
    if type(metadata) is not dict or not all(type(v) is str for v in metadata.values()):
        raise IntegrityError(f"{path}: the metadata of a safetensors file is text")
    base = 8 + len(raw)
    found = []
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(path, name, entry)
        found.append((begin, end, name, FileTensor(dtype, shape, path, base + begin)))
    found.sort(key=lambda each: each[:2])
    position = 0
    for begin, end, name, _ in found:
        if begin != position:
            raise IntegrityError(f"{path}: a gap or overlap before the tensor {name!r:.80}")
        position = end
    if base + position != size:
        raise IntegrityError(f"{path} is longer or shorter than its tensors")
    return {name: tensor for _, _, name, tensor in found}, metadata


def with_aliases(
    tensors: Mapping[str, FileTensor], metadata: Mapping[str, str]
) -> dict[str, FileTensor]:
    """Add the names of tied weights in the metadata, which maps dropped names to kept ones."""
    aliases = {
        name: tensors[kept]
        for name, kept in metadata.items()
        if kept in tensors and (name, kept) != _FORMAT
    }
    return {**aliases, **tensors}


def load(tensors: Mapping[str, FileTensor]) -> dict[str, torch.Tensor]:
    """Load tensors; several names of one tensor share its memory."""
    once = {id(tensor): tensor for tensor in tensors.values()}
    loaded = {key: tensor.load() for key, tensor in once.items()}
    return {name: loaded[id(tensor)] for name, tensor in tensors.items()}


def _read_header(path: str) -> tuple[bytes, int]:
    with fs.open_file(path) as file:
        size = file.size()
        head = bytearray(min(8, size))
        file.read_into(0, memoryview(head))
        length = int.from_bytes(head, "little")
        if size < 8 or not 2 <= length <= min(size - 8, _MOST_HEADER):
            raise IntegrityError(f"{path} is not a safetensors file: its header's length is wrong")
        raw = bytearray(length)
        if file.read_into(8, memoryview(raw)) != length:
            raise IntegrityError(f"{path} is shorter than it was")
    return bytes(raw), size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a name is there twice")
    return mapping


def _entry(path: str, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Check a tensor's description; return its dtype, shape, first and last offset."""
    if type(entry) is dict and entry.keys() == {"dtype", "shape", "data_offsets"}:
        dtype = DTYPES.get(entry["dtype"]) if type(entry["dtype"]) is str else None
        shape, offsets = entry["shape"], entry["data_offsets"]
        if dtype is not None and _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2:
            nbytes = math.prod(shape) * ITEM_SIZES[dtype]
            if len(shape) <= 64 and offsets[1] - offsets[0] == nbytes:
                return dtype, tuple(shape), offsets[0], offsets[1]
    raise IntegrityError(f"{path}: the tensor {name!r:.80} has a wrong description")


def _are_sizes(value: Any) -> bool:
    return type(value) is list and all(type(v) is int and 0 <= v < 1 << 60 for v in value)
