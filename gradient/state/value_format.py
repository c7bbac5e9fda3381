"""The limits, tables and interfaces that the encoder and the decoder of values share."""

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
"""The size up to which bytes, arrays and tensors are inline in the JSON as hex."""

CHUNKED_BYTES = 256
"""The size above which a reader also accepts chunks, which versions before 0.2.0 wrote."""

MAX_DEPTH = canonical.MAX_DEPTH - 6
"""The maximal nesting of the JSON of one value; the object around it uses the rest."""

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
"""The default factories that a stored ``defaultdict`` may have, by stored name."""

FACTORY_NAMES = {factory: name for name, factory in FACTORIES.items()}

OTHER_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)),
        *("qint8", "quint8", "qint32", "quint4x2", "quint2x4"),
    )
    if hasattr(torch, name)
}
"""Dtypes that a value may name although no tensor of them can be stored, by stored name."""

VALUE_DTYPES = {**DTYPES, **OTHER_DTYPES}
VALUE_DTYPE_NAMES = {**NAMES, **{dtype: name for name, dtype in OTHER_DTYPES.items()}}


class ContentWriter(Protocol):
    """Stores the bulk data of encoded values; `path` names the value in errors."""

    def tensor(self, tensor: torch.Tensor, path: str) -> Json:
        """Store a tensor and return its node; raises UnsupportedValueError."""

    def data(self, data: Buffer, width: int, path: str) -> Json:
        """Store bytes (elements of `width` bytes) and return their node, which is not a string."""


class ContentReader(Protocol):
    """Reads the bulk data that a `ContentWriter` stored."""

    def tensor(self, node: Json) -> torch.Tensor:
        """Return the tensor of a node, in memory of its own."""

    def data(self, node: Json) -> bytes | bytearray:
        """Return the bytes of a node, in memory of their own."""


class Pickled(bytes):
    """A pickle as bytes; it is loaded only for a name that is registered with ``pickle=True``."""

    __slots__ = ()

    @classmethod
    def of(cls, value: object) -> Pickled:
        """Pickle a value whose name is registered with ``pickle=True``."""
        return cls(pickle.dumps(value, protocol=5))

    def load(self) -> Any:
        """Unpickle, which can run any code. Call it only for names with ``pickle=True``."""
        return pickle.loads(self)  # noqa: S301
