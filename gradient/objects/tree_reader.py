"""The interface of what reads trees: it is all that walking a tree needs of the object database."""

from __future__ import annotations

from typing import Protocol

from gradient.objects.oid import Kind, Oid


class TreeReader(Protocol):
    """Reads objects by id."""

    def read(self, oid: Oid, kind: Kind) -> bytes:
        """Return the body of an object, verified by its hash."""
