"""Object ids: the hash of an object's content, independent of how it is stored."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Self

from blake3 import blake3

from gradient.errors import MalformedObjectError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Kind(Enum):
    """The kinds of objects. The value is part of the hashed bytes."""

    BLOB = "blob"
    """Up to one chunk of a tensor's bytes."""
    LIST = "list"
    """The ids of a large tensor's chunks, 32 bytes each, in order."""
    TREE = "tree"
    """Canonical JSON: named entries or one value."""
    COMMIT = "commit"
    """Canonical JSON: a tree and its place in history."""


class Oid(bytes):
    """32 bytes: BLAKE3-256 over ``kind SP length NUL body`` of the decoded object."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Make an id of 32 raw bytes; raises MalformedObjectError for another length."""
        if len(raw) != 32:
            raise MalformedObjectError(f"an object id has 32 bytes, not {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def of(cls, kind: Kind, body: Buffer) -> Self:
        """Return the id of an object; `body` may be any C-contiguous buffer and is not copied."""
        view = memoryview(body)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        hasher = blake3(f"{kind.value} {view.nbytes}\0".encode("ascii"))
        hasher.update(view)
        return super().__new__(cls, hasher.digest())

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse 64 lower-case hex digits; raises MalformedObjectError for other text."""
        # A history of 10,000 commits has 50,000 ids. Comparing is faster than a regular expression.
        # It is needed because `fromhex` accepts capitals and blanks.
        try:
            raw = bytes.fromhex(text) if type(text) is str and len(text) == 64 else b""
        except ValueError:
            raw = b""
        if not raw or raw.hex() != text:
            raise MalformedObjectError(f"not an object id: {text!r:.80}")
        return super().__new__(cls, raw)

    @property
    def short(self) -> str:
        """The first ten hex digits, for people."""
        return self.hex()[:10]

    def __repr__(self) -> str:
        return f"Oid({self.short})"

    __str__ = bytes.hex
