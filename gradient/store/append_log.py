"""A numbered append-only log: records that are added by creating the file with the next number.

Only one process can create a file, so creating it is the compare-and-swap: a process that loses the
race reads the new record and tries the next number. The log needs no lock, leaves nothing to clean
up after a kill and does not depend on a clock.

Each record carries its own checksum, because a storage without an atomic create may show a part of
it. A damaged record does not count, but it keeps its number.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from blake3 import blake3

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.storage import fs
from gradient.storage.base import Storage

_LOG = logging.getLogger("gradient")
_NUMBER: Final = re.compile(r"[0-9]{16}")

Record = TypeVar("Record")


def path_of(folder: str, number: int) -> str:
    """Return the storage name of record `number` of the log in `folder`."""
    return f"{folder}/{number:016d}"


def number_of(name: str) -> int | None:
    """Return the number of the record with this file name; None for other files."""
    return int(name) if _NUMBER.fullmatch(name) else None


def numbers_in(names: Iterable[str]) -> list[int]:
    """Return the numbers of the records among the file names of a folder, in their order."""
    return [number for name in names if (number := number_of(name)) is not None]


def encode(body: dict[str, Json]) -> bytes:
    """Encode a record: canonical JSON with the BLAKE3 of the other fields in ``check``."""
    check = blake3(canonical.dumps(body)).hexdigest()
    return canonical.dumps({**body, "check": check})


def decode(raw: bytes, fields: set[str], noun: str) -> dict[str, Json]:
    """Return the fields of a record without ``check``; raises MalformedObjectError.

    `noun` names the kind of record in messages: ``ref record``.
    """
    body = canonical.loads(raw)
    if type(body) is not dict or body.keys() != fields | {"check"}:
        raise MalformedObjectError(f"a {noun} has other fields than these")
    if body.pop("check") != blake3(canonical.dumps(body)).hexdigest():
        raise MalformedObjectError(f"a {noun} fails its check")
    return body


class AppendLog(Generic[Record]):
    """The log in one folder of a storage."""

    def __init__(
        self,
        storage: Storage,
        folder: str,
        parse: Callable[[bytes, int], Record],
        *,
        max_bytes: int,
    ) -> None:
        self._storage = storage
        self._parse = parse
        self._max_bytes = max_bytes
        self._reported: set[int] = set()
        self.folder = folder
        """Its name in the storage."""

    def numbers(self) -> list[int]:
        """Return the numbers that are taken, in ascending order, also by damaged records."""
        return numbers_in(self._storage.names(self.folder))

    def path(self, number: int) -> str:
        """Return the storage name of a record."""
        return path_of(self.folder, number)

    def exists(self, number: int) -> bool:
        """Return whether a number is taken, also by a damaged record."""
        return self._storage.size(self.path(number)) is not None

    def read(self, number: int) -> Record | None:
        """Return a record; None if it does not exist or is damaged.

        Damage is logged once for each record.
        """
        try:
            return self._parse(self._read_bytes(number), number)
        except GradientIOError as error:
            if fs.is_missing(error):
                return None
            raise
        except MalformedObjectError as error:
            if number not in self._reported:
                self._reported.add(number)
                _LOG.warning("%s is damaged and does not count: %s", self.path(number), error)
            return None

    def read_strict(self, number: int) -> Record:
        """Return a record; raises MalformedObjectError or GradientIOError if it cannot be read."""
        try:
            return self._parse(self._read_bytes(number), number)
        except MalformedObjectError as error:
            raise MalformedObjectError(f"{self.path(number)} is damaged: {error}") from None

    def create(self, number: int, raw: bytes) -> bool:
        """Create a record durably; returns False if another process has taken the number."""
        return self._storage.put_if_absent(self.path(number), raw)

    def withdraw(self, number: int) -> None:
        """Remove a record that this process created."""
        self._storage.remove(self.path(number))

    def _read_bytes(self, number: int) -> bytes:
        return self._storage.read(self.path(number), size=self._max_bytes)
