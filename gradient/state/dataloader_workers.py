"""Protection of a data loader's workers against signals that are sent to the whole job.

A scheduler signals every process of a job. If a worker exits, the epoch fails before the run
reaches its next step. But the parent ends its workers with the same signal, and waits for them
forever at interpreter exit if they ignore it. So a thread in the worker checks the sender.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CAN_IDENTIFY_SENDER = hasattr(signal, "sigwaitinfo")
"""True if the system reports the sender of a signal; otherwise workers are not protected."""


@contextmanager
def signals_blocked(signals: tuple[int, ...]) -> Iterator[None]:
    """Block signals while workers are started, because they inherit the signal mask.

    A signal that arrives in this context is delivered to the caller when the context exits.
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
    """A ``worker_init_fn`` that ignores signals from other processes than the parent."""

    started: Callable[[int], object] | None
    signals: tuple[int, ...]

    def __call__(self, worker: int) -> None:
        """Protect this worker process, then call the script's own ``worker_init_fn``."""
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
