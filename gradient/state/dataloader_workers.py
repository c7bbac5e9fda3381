"""Workers of a data loader that outlive a signal sent to the whole job.

A scheduler signals every process of a job, and a worker's end ends the epoch that is to reach its
next step. But a worker must end where its parent says so, by the same signal: one that ignored it
would be waited for without end when the interpreter exits. So a thread looks at who sent it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CAN_IDENTIFY_SENDER = hasattr(signal, "sigwaitinfo")
"""Whether the system tells who sent a signal; where it does not, workers stay as they are."""


@contextmanager
def signals_blocked(signals: tuple[int, ...]) -> Iterator[None]:
    """Start workers that are deaf to signals from their first moment on: they inherit the mask.

    One that comes meanwhile reaches the caller when this ends.
    """
    if not CAN_IDENTIFY_SENDER or not signals:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class ProtectedWorkerInit:
    """Starts a worker: the script's way, after making it deaf to signals of others."""

    started: Callable[[int], object] | None
    signals: tuple[int, ...]

    def __call__(self, worker: int) -> None:
        """Be a `worker_init_fn`."""
        if CAN_IDENTIFY_SENDER:
            signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
            threading.Thread(
                target=_exit_on_parent_signal, args=(self.signals,), daemon=True
            ).start()
        if self.started is not None:
            self.started(worker)


def _exit_on_parent_signal(signals: tuple[int, ...]) -> None:
    parent = os.getppid()
    while signal.sigwaitinfo(signals).si_pid != parent:
        pass
    os._exit(0)
