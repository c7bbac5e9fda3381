"""How several ranks that are preempted come to end after the same step.

One that left earlier would leave the others waiting in a collective. The first rank decides, and
says so through the store that every process group has: no collective is needed, and a step costs
one question to the store.
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
"""For how long a rank waits for the first one's last commit: the scheduler ends it before."""


class PreemptionBarrier:
    """When this rank ends.

    The first, once any rank was asked to leave, names the step after the one it is at: no rank can
    be beyond that, as long as each step has something that all ranks wait in.
    """

    def __init__(self) -> None:
        self._last: int | None = None

    @property
    def is_agreed(self) -> bool:
        """Whether this rank has heard after which step all end."""
        return self._last is not None

    def due(self, step: int, *, asked: bool) -> bool:
        """Whether this rank ends after `step`; `asked`: it got the signal."""
        if not ranks.are_several():
            return asked
        if self._last is None:
            self._last = _agreed(step, asked=asked)
        return self._last is not None and step >= self._last

    def left(self) -> None:
        """Say that the last commit was made; on other ranks than the first, wait for that.

        A rank that ended before would make many a launcher end the first in mid-commit.
        """
        if not ranks.are_several():
            return
        try:
            if ranks.commits():
                _store().set(_LEFT, "1")
            else:
                _store().wait([_LEFT], _PATIENCE)
        except RuntimeError as error:  # the first rank is gone: so is the store that it held
            _LOG.debug("the first rank does not say that it has left: %s", error)


def _agreed(step: int, *, asked: bool) -> int | None:
    """Return the step after which all ranks end, as far as it is agreed."""
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
