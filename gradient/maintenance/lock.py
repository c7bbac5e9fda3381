"""One collection or repair at a time: a numbered claim that only one process can make.

That saves work; it is not what keeps objects safe from a collection. So where a full disk leaves no
room for a claim, there is none.
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

_AT_WORK: Final[set[str]] = set()
"""The words of the claims that this process has."""


@contextmanager
def only_one(storage: Storage, *, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Hold the claim; raises ConflictError where another process has it."""
    word = uuid.uuid4().hex
    _AT_WORK.add(word)
    name = None
    try:
        name = _make(storage, word, clock())
        yield
    finally:
        _AT_WORK.discard(word)
        if name is not None:
            try:
                storage.remove(name)
            except GradientIOError as error:
                _LOG.debug("a claim stays until this process ends: %s", error)


def _make(storage: Storage, word: str, now: float) -> str | None:
    taken = append_log.numbers_in(storage.names(FOLDER))
    for number in taken:
        if _is_held(storage, append_log.path_of(FOLDER, number), now):
            raise ConflictError(
                "another collection or repair is at work in this repo; wait until it has ended"
            )
    name = append_log.path_of(FOLDER, max(taken, default=0) + 1)
    body = canonical.dumps({"owner": str(process_id.current()), "since": int(now), "word": word})
    try:
        if not storage.put_if_absent(name, body):
            raise ConflictError("another collection or repair has just begun in this repo")
    except GradientIOError as error:
        if error.errno not in NO_ROOM:
            raise
        _LOG.debug("no room for a claim: %s", error)
        return None
    # Only now: else one who looked before might take the same number.
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
    by, since = ProcessId.parse(str(body["owner"])), body.get("since")
    runs = None if by is None else by.runs()
    if by == process_id.current():
        return body.get("word") in _AT_WORK  # else what a failed call left
    if runs is None:
        return type(since) is int and abs(now - since) <= EXPIRY
    return runs
