"""Process ids that are unique across machines and restarts, and a check whether a process runs.

A process is named by its machine, its number there and its start time. "Machine" means one boot of
one kernel and one namespace of process numbers. So containers with the same host name differ, and
two boots of one machine do too. Nothing is known about a process on another machine. No clock is
read.
"""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass
from typing import Final, Self

from blake3 import blake3

from gradient.storage import fs

_SPELLED: Final = re.compile(r"([0-9a-f]{16})-([0-9]{1,10})-([0-9]{1,20})")
_UNKNOWN: Final = uuid.uuid4().hex[:16]


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process."""

    machine: str
    """A boot and a namespace of process numbers, as 16 hex digits."""
    process: int
    """Its number."""
    started: str
    """The start time in the system's clock ticks; ``0`` if the system does not report it."""

    def __str__(self) -> str:
        return f"{self.machine}-{self.process}-{self.started}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Invert `str`; None for other text."""
        match = _SPELLED.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2]), match[3])

    def runs(self) -> bool | None:
        """Return whether the process runs; None if that cannot be known on this machine."""
        if self.machine != _machine():
            return None
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        stat = _stat(self.process)
        if stat is None or self.started == "0":
            return True
        started, ended = stat
        return started == self.started and not ended


def current() -> ProcessId:
    """Return the id of this process."""
    stat = _stat(os.getpid())
    return ProcessId(_machine(), os.getpid(), "0" if stat is None else stat[0])


def _machine() -> str:
    boot = fs.read_system("/proc/sys/kernel/random/boot_id")
    space = fs.read_link("/proc/self/ns/pid")
    if not boot or not space:
        # Other processes cannot check this one, nor this one them.
        return _UNKNOWN
    return blake3(boot + space.encode()).hexdigest()[:16]


def _stat(process: int) -> tuple[str, bool] | None:
    """Return the start time of a process, and whether it is a zombie."""
    raw = fs.read_system(f"/proc/{process}/stat")
    if not raw:
        return None
    fields = raw.rpartition(b")")[2].split()
    if len(fields) < 20:
        return None
    state, threads, started = fields[0], int(fields[17]), fields[19].decode("ascii")
    return started, state in (b"Z", b"X") and threads <= 1
