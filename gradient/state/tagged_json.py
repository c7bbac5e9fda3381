"""Values as tagged JSON, without pickle: decoding returns the same types and the same bits.

Rules
1. Types are matched with ``type(x) is``: a bool is not an int, a ``torch.Size`` is not a tuple, and
   an IntEnum cannot be stored.
2. JSON's null, booleans, strings, arrays, and the numbers that JSON represents exactly are encoded
   as themselves (an array is a list). Every other value is an object with one key, its tag.
3. The decoder chooses from the tables in this package. Stored data cannot name anything to import.
4. Bulk data (tensors, and arrays and bytes above `INLINE_BYTES`) is passed to a `ContentWriter` and
   read back through a `ContentReader`, which decide where it is stored.

A value that occurs twice is stored twice. Only tensors can share memory (see `tensors.extent`).
"""

from __future__ import annotations

from typing import Any

from gradient.objects.canonical import Json
from gradient.state.decoder import Decoder
from gradient.state.encoder import Encoder
from gradient.state.value_format import ContentReader, ContentWriter, Pickled

__all__ = ["ContentReader", "ContentWriter", "Decoder", "Encoder", "Pickled", "decode", "encode"]


def encode(value: object, *, writer: ContentWriter, path: str) -> Json:
    """Encode a value; raises UnsupportedValueError naming the part that has no encoding."""
    return Encoder(writer).encode(value, path)


def decode(node: Json, *, reader: ContentReader) -> Any:
    """Decode a value; raises MalformedObjectError for JSON that `encode` does not write."""
    return Decoder(reader).decode(node)
