"""Leases: "I rely on what I find here", said by a writer before it looks for the first object.

Rule: a writer has a lease from before its first look-up until its ref has moved, and the lease
names the refs that it may move. The garbage collector removes nothing for good while a lease lives
that is older than its move to the trash. A lease need not survive a power cut, for its writer does
not either: so it costs no sync.

What a lease says of its owner is in its name, which is there whole or not at all.
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
"""Where leases lie in a storage."""

EXPIRY: Final = 3600.0
"""Seconds after which a lease of another machine counts as forgotten. Its refs are fenced first,
so that its writer, should it wake up, finds out: the clocks need not agree."""

_NAME: Final = re.compile(r"([0-9a-f]{16}-[0-9]+-[0-9]+)\.([0-9]{1,12})\.([0-9a-f]{32})")
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that somebody has."""

    name: str
    """Its name in the folder."""
    owner: ProcessId
    """Whose it is."""
    since: int
    """When it was taken, in seconds since 1970 by the owner's clock."""


class Leases:
    """The leases of one storage."""

    def __init__(self, storage: Storage, *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._clock = clock
        self._left: set[str] = set()

    def take(self) -> Lease:
        """Return a lease that begins with its first `cover`."""
        for name in [*self._left]:
            _remove(self._storage, name, self._left)
        name = f"{process_id.current()}.{int(self._clock())}.{uuid.uuid4().hex}"
        return Lease(self._storage, f"{FOLDER}/{name}", self._left)

    def held(self) -> list[Held]:
        """Return the leases there are, whoever's and however old."""
        found = []
        for entry in self._storage.names(FOLDER):
            match = _NAME.fullmatch(entry)
            if match is not None and (by := ProcessId.parse(match[1])) is not None:
                found.append(Held(entry, by, int(match[2])))
        return found

    def exists(self, held: Held) -> bool:
        """Tell whether a lease is still there."""
        return self._storage.size(f"{FOLDER}/{held.name}") is not None

    def forgotten(self, held: Held) -> bool:
        """Tell whether the owner of a lease cannot be known to run, and took it long ago."""
        return held.owner.runs() is None and self._clock() - held.since > EXPIRY

    def refs(self, held: Held) -> list[str] | None:
        """Return the refs that a lease names, as ``heads/main``; None where it is not readable."""
        try:
            body = canonical.loads(self._storage.read(f"{FOLDER}/{held.name}", size=_MOST_BYTES))
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

    def end(self, held: Held) -> None:
        """Remove a lease whose owner is gone, or whose refs were fenced."""
        self._storage.remove(f"{FOLDER}/{held.name}")


class Lease:
    """One writer's lease. As a context manager it ends itself."""

    def __init__(self, storage: Storage, name: str, left: set[str]) -> None:
        self._storage = storage
        self._name = name
        self._left = left
        self._refs: list[str] = []
        self._process = os.getpid()

    def cover(self, ref: str) -> None:
        """Make the lease be there, and name this ref too.

        IMPORTANT: before the first look-up of what the ref is to lead to; and again before each
        further attempt, because a lease that was taken for forgotten is gone.
        """
        if ref not in self._refs:
            self._refs.append(ref)
        self._storage.put_derived(self._name, content(self._refs))

    def end(self) -> None:
        """Give it up; harmless where it never began. A failure only delays a collection."""
        if self._refs and self._process == os.getpid():
            _remove(self._storage, self._name, self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def content(refs: Sequence[str]) -> bytes:
    """Return what stands in a lease that names these refs."""
    return canonical.dumps({"refs": [*refs]})


def _remove(storage: Storage, name: str, left: set[str]) -> None:
    """Remove a lease that has ended; while it may be there, it is noted in `left`.

    One that stayed would hold up every collection for as long as this process lives.
    """
    left.add(name)  # first, for a Ctrl-C may end it anywhere
    try:
        storage.remove(name)
    except GradientIOError as error:
        _LOG.debug("a lease stays for now: %s", error)
    else:
        left.discard(name)
