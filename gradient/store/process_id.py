"""Which process made something, and whether it still runs: as far as one can tell from here.

A process is named by the machine it runs on, its number there and when it was started. "Machine"
means one boot of one kernel and one space of process numbers, so that neither containers with the
same host name nor a machine that was started anew are taken for each other. Of a process on another
machine nothing is known. Nothing here looks at a clock.
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
    """A boot and a space of process numbers, as 16 hex digits."""
    process: int
    """Its number."""
    started: str
    """When it was started, in the system's own count; ``0`` where that is not told."""

    def __str__(self) -> str:
        return f"{self.machine}-{self.process}-{self.started}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Invert `str`; None for what it does not return."""
        match = _SPELLED.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2]), match[3])

    def runs(self) -> bool | None:
        """Tell whether the process runs; None where that cannot be known from here."""
        if self.machine != _machine():
            return None
        try:
            os.kill(self.process, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        facts = _facts(self.process)
        if facts is None or self.started == "0":
            return True
        started, ended = facts
        return started == self.started and not ended


def current() -> ProcessId:
    """Return the process that asks."""
    facts = _facts(os.getpid())
    return ProcessId(_machine(), os.getpid(), "0" if facts is None else facts[0])


def _machine() -> str:
    boot = fs.read_system("/proc/sys/kernel/random/boot_id")
    space = fs.read_link("/proc/self/ns/pid")
    if not boot or not space:
        # Nobody else can tell anything of us, nor we of others.
        return _UNKNOWN
    return blake3(boot + space.encode()).hexdigest()[:16]


def _facts(process: int) -> tuple[str, bool] | None:
    """Return when a process was started, and whether it is only waiting to be buried."""
    raw = fs.read_system(f"/proc/{process}/stat")
    if not raw:
        return None
    fields = raw.rpartition(b")")[2].split()
    if len(fields) < 20:
        return None
    state, threads, started = fields[0], int(fields[17]), fields[19].decode("ascii")
    return started, state in (b"Z", b"X") and threads <= 1
