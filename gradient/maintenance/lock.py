"""The lock that allows one collection or repair at a time: a numbered file with its owner.

The lock saves work; objects are safe without it. So if the disk is too full to create the file, the
work proceeds without a lock.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from gradient.errors import ConflictError, GradientIOError, MalformedObjectError
from gradient.objects import canonical
from gradient.storage import fs
from gradient.storage.base import Storage
from gradient.storage.directory import NO_ROOM
from gradient.store import append_log, process_id
from gradient.store.leases import EXPIRY
from gradient.store.process_id import ProcessId

_LOG = logging.getLogger("gradient")

FOLDER: Final = "gc"

_HELD: Final[set[str]] = set()
"""The tokens of the locks that this process holds."""


@contextmanager
def exclusive(storage: Storage, *, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Hold the lock; raises ConflictError if another process holds it."""
    token = uuid.uuid4().hex
    _HELD.add(token)
    name = None
    try:
        name = _acquire(storage, token, clock())
        yield
    finally:
        _HELD.discard(token)
        if name is not None:
            try:
                storage.remove(name)
            except GradientIOError as error:
                _LOG.debug("the lock stays until this process ends: %s", error)


def _acquire(storage: Storage, token: str, now: float) -> str | None:
    taken = append_log.numbers_in(storage.names(FOLDER))
    for number in taken:
        if _is_held(storage, append_log.path_of(FOLDER, number), now):
            raise ConflictError(
                "another collection or repair is at work in this repo; wait until it has ended"
            )
    name = append_log.path_of(FOLDER, max(taken, default=0) + 1)
    body = canonical.dumps({"owner": str(process_id.current()), "since": int(now), "word": token})
    try:
        if not storage.put_if_absent(name, body):
            raise ConflictError("another collection or repair has just begun in this repo")
    except GradientIOError as error:
        if error.errno not in NO_ROOM:
            raise
        _LOG.debug("no space left for a lock: %s", error)
        return None
    # Only now: otherwise a process that has listed the folder could take the same number.
    for number in taken:
        storage.remove(append_log.path_of(FOLDER, number))
    return name


def _is_held(storage: Storage, name: str, now: float) -> bool:
    try:
        body = canonical.loads(storage.read(name))
    except GradientIOError as error:
        if fs.is_missing(error):
            return False
        raise
    except MalformedObjectError:
        return False
    if type(body) is not dict or type(body.get("owner")) is not str:
        return False
    owner, since = ProcessId.parse(str(body["owner"])), body.get("since")
    runs = None if owner is None else owner.runs()
    if owner == process_id.current():
        return body.get("word") in _HELD  # else a failed call left it
    if runs is None:
        return type(since) is int and abs(now - since) <= EXPIRY
    return runs
