"""The part of the object database that code which walks trees needs."""

from __future__ import annotations

from typing import Protocol

from gradient.objects.oid import Kind, Oid


class TreeReader(Protocol):
    """Reads objects by id."""

    def read(self, oid: Oid, kind: Kind) -> bytes:
        """Return the body of an object, verified by its hash."""
