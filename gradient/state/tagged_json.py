"""Values as tagged JSON, without pickle: the same type and the same bits come back.

Rules
1. Types are matched by ``type(x) is``: a bool is no int, a ``torch.Size`` no tuple, an IntEnum
   nothing that could be stored.
2. JSON's own null, booleans, strings, arrays, and numbers that JSON keeps exactly stand for
   themselves (an array is a list); everything else is an object with one key, its tag.
3. Decoding chooses from the tables here. Nothing that is read can name something to import.
4. Bulk (tensors, arrays and bytes beyond 256 bytes) goes through `Put` and comes back through
   `Get`; whoever stores values decides where it lives.

A value that appears twice is stored twice; only tensors can share memory (see `tensors.extent`).
"""

from __future__ import annotations

from typing import Any

from gradient.objects.canonical import Json
from gradient.state.decoder import Decoder
from gradient.state.encoder import Encoder
from gradient.state.value_format import Get, Pickled, Put

__all__ = ["Decoder", "Encoder", "Get", "Pickled", "Put", "decode", "encode"]


def encode(value: object, *, put: Put, path: str) -> Json:
    """Encode a value; raises UnsupportedValueError naming the path to what has no encoding."""
    return Encoder(put).encode(value, path)


def decode(node: Json, *, get: Get) -> Any:
    """Decode a value; raises MalformedObjectError for anything `encode` would not write."""
    return Decoder(get).decode(node)
