"""One of two processes that race to link files of their own to the same names."""

from __future__ import annotations

import time
from typing import Final

from gradient.errors import GradientIOError
from gradient.storage import fs

_PATIENCE: Final = 20.0
_PARTIES: Final = ("own", "other")


def contend(folder: str, party: str, rounds: int) -> int | None:
    """Link a file to each name, and return the number of wins; None if the other process is
    missing.

    Waits for the other process before each name. Otherwise, on a busy machine, the first process
    could take every name before the second one starts.
    """
    mine = f"{folder}/{party}"
    fs.replace_file(mine, party.encode())
    deadline = time.monotonic() + _PATIENCE
    won = 0
    for number in range(rounds):
        fs.link(mine, f"{mine}-{number}")
        while not all(fs.exists(f"{folder}/{each}-{number}") for each in _PARTIES):
            if time.monotonic() > deadline:
                return None
            time.sleep(0)  # no longer: both are to begin at the same moment
        won += _win(mine, f"{folder}/name-{number}")
    fs.replace_file(f"{mine}.won", str(won).encode())
    return won


def result(folder: str, party: str) -> int | None:
    """Return the number of names that a party won; None if it did not finish."""
    path = f"{folder}/{party}.won"
    return int(fs.read_file(path, limit=20)) if fs.exists(path) else None


def _win(mine: str, name: str) -> bool:
    try:
        fs.link(mine, name)
    except GradientIOError:
        return False
    return True
