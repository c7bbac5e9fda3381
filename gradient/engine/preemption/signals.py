"""A signal that the job will be ended soon: noted at once, acted on at the next step boundary.

Rules
1. The handler notes the signal and calls the one that was there before. It does nothing else: it
   interrupts the loop anywhere, in the middle of an optimizer step as well.
2. Once the engine is closed, it is as if it had never been installed. In a forked child as well,
   but that signals that nobody there handled end no child (SIGTERM alone does): a scheduler that
   warns by SIGUSR1 warns all processes of a job, and would end the workers of a data loader.
3. The former handlers are put back when the engine closes, unless somebody has put one on top of
   ours: then ours stays, and passes on what it gets.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final, NoReturn, TypeAlias

from gradient.engine.preemption.barrier import PreemptionBarrier
from gradient.errors import ConfigError

_LOG = logging.getLogger("gradient")
_Handler: TypeAlias = "Callable[[int, FrameType | None], Any] | int | signal.Handlers | None"

PREEMPTED: Final = 75
"""The exit status that asks a scheduler to run the job again (EX_TEMPFAIL)."""

_NEVER: Final = (signal.SIGKILL, signal.SIGSTOP)


class Preemption:
    """The signals that one engine handles: none, until it is asked to."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        """The signal that came first."""
        self._leaving = PreemptionBarrier()
        self._pid = os.getpid()
        self._before: dict[int, _Handler] = {}
        self._active = True

    @property
    def handled(self) -> tuple[int, ...]:
        """The signals that are handled."""
        return tuple(self._before)

    def install(self, numbers: Sequence[Any]) -> None:
        """Handle these signals (none: SIGTERM) from now on; raises ConfigError."""
        for number in [_signal(number) for number in numbers or (signal.SIGTERM,)]:
            if number in self._before:
                continue
            try:
                self._before[number] = signal.getsignal(number)
                signal.signal(number, self._handle)
            except ValueError:
                del self._before[number]
                raise ConfigError(
                    "handle_preemption: only the main thread can set signal handlers; call it there"
                ) from None

    def due(self, step: int) -> bool:
        """Whether the run ends after this step."""
        return bool(self._before) and self._leaving.due(step, asked=self.asked is not None)

    @property
    def ending(self) -> bool:
        """Whether it is known by now that the run ends, after this step or the next."""
        return self.asked is not None or self._leaving.is_agreed

    def leave(self, step: int, *, commit: Callable[[], object]) -> NoReturn:
        """End the process with SystemExit once `commit` has made its last one durable."""
        try:
            commit()
        finally:
            self._leaving.left()
        by = "another rank's signal" if self.asked is None else self.asked.name
        _LOG.warning("preempted by %s: the run ends after step %d", by, step)
        raise SystemExit(PREEMPTED)

    def restore(self) -> None:
        """Put the former handlers back; again is harmless."""
        self._active = False
        if self._pid != os.getpid():
            return  # a child's handlers are its own affair
        for number, before in [*self._before.items()]:
            if signal.getsignal(number) != self._handle or before is None:
                continue  # somebody's handler calls ours, or nobody in Python can say what was
            try:
                signal.signal(number, before)
            except ValueError:  # not the main thread: ours stays and passes on
                return
            del self._before[number]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        here = self._pid == os.getpid()
        if self._active and here:
            first, self.asked = self.asked is None, self.asked or signal.Signals(number)
            # Handling Ctrl-C is to replace its exception; impatience brings it back.
            if callable(before) and not (first and before is signal.default_int_handler):
                before(number, frame)
        elif callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL and (here or number == signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _signal(number: Any) -> signal.Signals:
    try:
        found = signal.Signals(number)
    except ValueError:
        found = signal.SIGKILL
    if found in _NEVER or isinstance(number, bool):
        raise ConfigError(
            f"handle_preemption: {number!r} is no signal that can be handled; pass those of the "
            f"module signal, such as signal.SIGUSR1"
        )
    return found
