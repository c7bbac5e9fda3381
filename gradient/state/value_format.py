"""What the encoder and the decoder of values agree on: limits, tables, and who keeps the bulk."""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch

from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.state.tensors import DTYPES, NAMES

if TYPE_CHECKING:
    from typing_extensions import Buffer

INLINE_BYTES = 512
"""Bytes, arrays and tensors up to this size stand in the JSON as hex."""

CHUNKED_BYTES = 256
"""What is larger than this may have chunks instead: before 0.2.0 it had."""

MAX_DEPTH = canonical.MAX_DEPTH - 6
"""How deep the JSON of one value may nest; the rest is left to the object around it."""

FACTORIES: dict[str, Callable[[], Any]] = {
    "bool": bool,
    "bytes": bytes,
    "complex": complex,
    "dict": dict,
    "float": float,
    "frozenset": frozenset,
    "int": int,
    "list": list,
    "set": set,
    "str": str,
    "tuple": tuple,
    "Counter": Counter,
    "OrderedDict": OrderedDict,
    "deque": deque,
}
"""The default factories that a stored ``defaultdict`` may have: persisted."""

FACTORY_NAMES = {factory: name for name, factory in FACTORIES.items()}

OTHER_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
        *("qint8", "quint8", "qint32", "quint4x2", "quint2x4"),
    )
    if hasattr(torch, name)
}
"""Dtypes that can be named in a value although no tensor of them can be stored: persisted."""

VALUE_DTYPES = {**DTYPES, **OTHER_DTYPES}
VALUE_DTYPE_NAMES = {**NAMES, **{dtype: name for name, dtype in OTHER_DTYPES.items()}}


class ContentWriter(Protocol):
    """Takes the bulk of values that are being encoded; `path` names the value in errors."""

    def tensor(self, tensor: torch.Tensor, path: str) -> Json:
        """Store a tensor and return what stands for it; refuses one that cannot be stored."""

    def data(self, data: Buffer, width: int, path: str) -> Json:
        """Store bytes (elements of `width` bytes) and return what stands for them: no string."""


class ContentReader(Protocol):
    """Gives back the bulk that a `ContentWriter` took."""

    def tensor(self, node: Json) -> torch.Tensor:
        """Return the tensor for which `node` stands, in memory of its own."""

    def data(self, node: Json) -> bytes | bytearray:
        """Return the bytes for which `node` stands, in memory of their own."""


class Pickled(bytes):
    """A pickle, kept as bytes until its name is registered with ``pickle=True``."""

    __slots__ = ()

    @classmethod
    def of(cls, value: object) -> Pickled:
        """Pickle a value whose registration opted in."""
        return cls(pickle.dumps(value, protocol=5))

    def load(self) -> Any:
        """Unpickle: this runs code of the pickle's choosing. Only for a name that opted in."""
        return pickle.loads(self)  # noqa: S301
