"""Waiting for writers that may depend on packs in the trash."""

from __future__ import annotations

import logging
import time
from typing import Final

from gradient.store.leases import HeldLease, Leases
from gradient.store.ref_record import Space
from gradient.store.refs import Refs

_LOG = logging.getLogger("gradient")

WAIT: Final = 10.0
"""Seconds to wait for writers in mid-commit."""

_PAUSE: Final = 0.02
_SPACES: Final[tuple[Space, ...]] = ("heads", "tags")


def drain(leases: Leases, refs: Refs, *, wait: float) -> list[HeldLease]:
    """Wait until every current lease has ended; return those that have not.

    The lease of a dead process ends here. So does a lease of another machine that is older than an
    hour, *after* its refs were fenced: if its writer wakes up, it cannot move them without looking
    up every object again. Waits for at most `wait` seconds.
    """
    waiting = leases.held()
    deadline = time.monotonic() + wait
    while True:
        waiting = [held for held in waiting if not _has_ended(held, leases, refs)]
        if not waiting or time.monotonic() >= deadline:
            return waiting
        time.sleep(_PAUSE)


def _has_ended(held: HeldLease, leases: Leases, refs: Refs) -> bool:
    if not leases.exists(held):
        return True
    if held.owner.runs() is False:
        leases.release(held)
        return True
    if not leases.is_expired(held):
        return False
    named = leases.refs(held)
    if named is None:
        named = [f"{space}/{name}" for space in _SPACES for name in refs.known(space)]
    # IMPORTANT: before the lease ends.
    for ref in named:
        space, _, name = ref.partition("/")
        for known in _SPACES:
            if space == known:
                refs.fence(name, reason=f"the lease {held.name} was forgotten", space=known)
    _LOG.warning("a lease of another machine was forgotten; its refs were fenced: %s", held.name)
    leases.release(held)
    return True
