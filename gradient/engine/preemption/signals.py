"""Signals that announce the end of the job: noted at once, acted on at the next step boundary.

Rules
1. The handler notes the signal and calls the previous handler. It does nothing else, because it
   may interrupt the loop anywhere, even inside an optimizer step.
2. After the engine is closed, and in a forked child, the handler behaves as if it had not been
   installed, with one exception: in a child, only SIGTERM ends the process by default. A scheduler
   that warns with SIGUSR1 signals all processes of a job, and would end the data loader workers.
3. Closing the engine restores the previous handlers, unless another handler was installed on top.
   Then this handler stays and passes signals on.
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
"""The exit status (EX_TEMPFAIL) that asks a scheduler to run the job again."""

_NEVER: Final = (signal.SIGKILL, signal.SIGSTOP)


class Preemption:
    """The signals that one engine handles: none before `install`."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        """The first signal that arrived."""
        self._barrier = PreemptionBarrier()
        self._pid = os.getpid()
        self._before: dict[int, _Handler] = {}
        self._active = True

    @property
    def handled(self) -> tuple[int, ...]:
        """The handled signals."""
        return tuple(self._before)

    def install(self, numbers: Sequence[Any]) -> None:
        """Handle these signals, by default SIGTERM; raise ConfigError for invalid ones."""
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
        """Return whether the run ends after this step."""
        return bool(self._before) and self._barrier.due(step, asked=self.asked is not None)

    @property
    def ending(self) -> bool:
        """True if the run is known to end after this step or the next."""
        return self.asked is not None or self._barrier.is_agreed

    def leave(self, step: int, *, commit: Callable[[], object]) -> NoReturn:
        """Make the last commit with `commit`, then end the process with SystemExit."""
        try:
            commit()
        finally:
            self._barrier.wait_for_last_commit()
        by = "another rank's signal" if self.asked is None else self.asked.name
        _LOG.warning("preempted by %s: the run ends after step %d", by, step)
        raise SystemExit(PREEMPTED)

    def restore(self) -> None:
        """Restore the previous handlers; calling it again is harmless."""
        self._active = False
        if self._pid != os.getpid():
            return  # a child manages its own handlers
        for number, before in [*self._before.items()]:
            if signal.getsignal(number) != self._handle or before is None:
                continue  # another handler calls this one, or Python did not set the previous one
            try:
                signal.signal(number, before)
            except ValueError:  # not the main thread: this handler stays and passes signals on
                return
            del self._before[number]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        here = self._pid == os.getpid()
        if self._active and here:
            first, self.asked = self.asked is None, self.asked or signal.Signals(number)
            # Handling SIGINT replaces KeyboardInterrupt; a second Ctrl-C raises it.
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
            f"handle_preemption: {number!r} is not a signal that can be handled; pass signals "
            f"of the module signal, such as signal.SIGUSR1"
        )
    return found
