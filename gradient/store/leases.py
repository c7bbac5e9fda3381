"""Leases: a writer's announcement that it relies on the objects that it finds.

Rule: a writer holds a lease from before its first look-up until its ref has moved, and the lease
names the refs that it may move. The garbage collector empties nothing from the trash while a lease
exists that is older than the move to the trash. A lease need not survive a power cut, because its
writer does not survive it either: so it costs no sync.

The owner is in the lease's file name, because a name exists whole or not at all.
"""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.objects import canonical
from gradient.storage import fs
from gradient.storage.base import Storage
from gradient.store import process_id
from gradient.store.process_id import ProcessId

_LOG = logging.getLogger("gradient")

FOLDER: Final = "leases"
"""The folder of leases in a storage."""

EXPIRY: Final = 3600.0
"""Seconds after which a lease of another machine counts as expired. Its refs are fenced first, so
that its writer notices if it wakes up: the clocks need not agree."""

_NAME: Final = re.compile(r"([0-9a-f]{16}-[0-9]+-[0-9]+)\.([0-9]{1,12})\.([0-9a-f]{32})")
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class HeldLease:
    """A lease as found in the storage."""

    name: str
    """Its name in the folder."""
    owner: ProcessId
    """The process that holds it."""
    since: int
    """The time of its acquisition, in seconds since 1970 by the owner's clock."""


class Leases:
    """The leases of one storage."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock
        self._unremoved: set[str] = set()

    def acquire(self) -> Lease:
        """Return a lease that begins with its first `cover`."""
        for name in [*self._unremoved]:
            _remove(self._storage, name, self._unremoved)
        name = f"{process_id.current()}.{int(self._clock())}.{uuid.uuid4().hex}"
        return Lease(self._storage, f"{FOLDER}/{name}", self._unremoved)

    def held(self) -> list[HeldLease]:
        """Return all leases, of any process and of any age."""
        found = []
        for entry in self._storage.names(FOLDER):
            match = _NAME.fullmatch(entry)
            if match is not None and (owner := ProcessId.parse(match[1])) is not None:
                found.append(HeldLease(entry, owner, int(match[2])))
        return found

    def exists(self, held: HeldLease) -> bool:
        """Return whether a lease still exists."""
        return self._storage.size(f"{FOLDER}/{held.name}") is not None

    def is_expired(self, held: HeldLease) -> bool:
        """Return whether a lease is old, and whether its owner runs cannot be known here."""
        return held.owner.runs() is None and self._clock() - held.since > EXPIRY

    def refs(self, held: HeldLease) -> list[str] | None:
        """Return the refs that a lease names, as ``heads/main``; None if it is malformed."""
        try:
            body = canonical.loads(self._storage.read(f"{FOLDER}/{held.name}", size=_MAX_BYTES))
        except GradientIOError as error:
            if fs.is_missing(error):
                return []
            raise
        except MalformedObjectError:
            return None
        refs = body.get("refs") if type(body) is dict else None
        if type(refs) is not list or not all(type(ref) is str for ref in refs):
            return None
        return [str(ref) for ref in refs]

    def release(self, held: HeldLease) -> None:
        """Remove a lease whose owner does not run any more, or whose refs were fenced."""
        self._storage.remove(f"{FOLDER}/{held.name}")


class Lease:
    """One writer's lease. As a context manager it releases itself."""

    def __init__(self, storage: Storage, name: str, unremoved: set[str]) -> None:
        self._storage = storage
        self._name = name
        self._unremoved = unremoved
        self._refs: list[str] = []
        self._process = os.getpid()

    def cover(self, ref: str) -> None:
        """Write the lease, naming this ref too.

        IMPORTANT: call it before looking up any object that the ref will point to, and again before
        each further attempt, because a lease that counted as expired has been removed.
        """
        if ref not in self._refs:
            self._refs.append(ref)
        self._storage.put_derived(self._name, encode(self._refs))

    def release(self) -> None:
        """Remove the lease, if it has begun. A failure only delays a collection."""
        if self._refs and self._process == os.getpid():
            _remove(self._storage, self._name, self._unremoved)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def encode(refs: Sequence[str]) -> bytes:
    """Return the content of a lease that names these refs."""
    return canonical.dumps({"refs": [*refs]})


def _remove(storage: Storage, name: str, unremoved: set[str]) -> None:
    """Remove a lease; while it may still exist, its name is in `unremoved`.

    A lease that stayed would delay every collection as long as this process runs.
    """
    unremoved.add(name)  # first, because a Ctrl-C may interrupt anywhere
    try:
        storage.remove(name)
    except GradientIOError as error:
        _LOG.debug("a lease stays for now: %s", error)
    else:
        unremoved.discard(name)
