"""The agreement of preempted ranks to end after the same step.

A rank that ended earlier would leave the others waiting in a collective. Rank 0 decides, and
announces the step through the key-value store of the process group. No collective is needed; each
step costs one query to the store.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final

import torch

from gradient.engine import ranks

_LOG = logging.getLogger("gradient")

_ASKED: Final = "gradient/preemption/asked"
_LAST: Final = "gradient/preemption/last"
_LEFT: Final = "gradient/preemption/left"
_PATIENCE: Final = timedelta(hours=1)
"""The time that a rank waits for rank 0's last commit; the scheduler ends the job before that."""


class PreemptionBarrier:
    """Decides when this rank ends.

    Once any rank was signalled, rank 0 names the step after its current one. No rank can be past
    that step, provided that each step contains a collective.
    """

    def __init__(self) -> None:
        self._last: int | None = None

    @property
    def is_agreed(self) -> bool:
        """True if this rank knows the last step."""
        return self._last is not None

    def due(self, step: int, *, asked: bool) -> bool:
        """Return whether this rank ends after `step`; `asked` means that it got the signal."""
        if not ranks.are_several():
            return asked
        if self._last is None:
            self._last = _agreed(step, asked=asked)
        return self._last is not None and step >= self._last

    def wait_for_last_commit(self) -> None:
        """Announce the last commit on rank 0, and wait for it on all other ranks.

        Many launchers kill all ranks when one ends, and would cut off rank 0 in mid-commit.
        """
        if not ranks.are_several():
            return
        try:
            if ranks.commits():
                _store().set(_LEFT, "1")
            else:
                _store().wait([_LEFT], _PATIENCE)
        except RuntimeError as error:  # rank 0 has ended, and its store with it
            _LOG.debug("rank 0 has not announced its last commit: %s", error)


def _agreed(step: int, *, asked: bool) -> int | None:
    """Return the last step of all ranks, or None if it is not decided."""
    store = _store()
    if not ranks.commits():
        if asked:
            store.set(_ASKED, "1")
        return int(store.get(_LAST)) if store.check([_LAST]) else None
    if not asked and not store.check([_ASKED]):
        return None
    store.set(_LAST, str(step + 1))
    return step + 1


def _store() -> Any:
    return torch.distributed.distributed_c10d._get_default_store()
