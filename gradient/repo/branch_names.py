"""The rules for branch names, and the names of tips that are set aside or diverted."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import count

from gradient.errors import InvalidNameError
from gradient.store.ref_names import MAX_QUOTED, check_name, quote

_FULL_ID = re.compile(r"[0-9a-fA-F]{64}")
_RUN = re.compile(r"(.+)\.run[1-9][0-9]*", re.DOTALL)
_ASIDE = re.compile(r"(.+)\.(?:old|run)([1-9][0-9]*)", re.DOTALL)


def check_branch_name(name: str, existing: Iterable[str] = ()) -> None:
    """Raise InvalidNameError for a name that a branch or tag cannot have.

    A name that collides with another existing name is refused too.
    """
    check_name(name, existing)
    if _FULL_ID.fullmatch(name) is not None:
        raise InvalidNameError(name, "it reads like a commit id")


def is_branch_name(name: str, existing: Iterable[str] = ()) -> bool:
    """Return whether a branch or tag can have this name."""
    try:
        check_branch_name(name, existing)
    except InvalidNameError:
        return False
    return True


def set_aside(branch: str) -> Iterator[str]:
    """Yield the names for a branch's former tips: ``B.old1``, ``B.old2``, …"""
    return (_joined(branch, f".old{number}") for number in count(1))


def diverted(branch: str) -> Iterator[str]:
    """Yield the names for runs that diverted: ``B.run2``, ``B.run3``, …"""
    match = _RUN.fullmatch(branch)
    base = match[1] if match else branch
    return (_joined(base, f".run{number}") for number in count(2))


def lines_beside(branch: str, existing: Collection[str]) -> list[str]:
    """Return the branches that were set aside or diverted from a branch, oldest first."""
    found = []
    for name in existing:
        match = _ASIDE.fullmatch(name)
        if match is not None and match[1] == branch:
            found.append((int(match[2]), name))
    return [name for _, name in sorted(found)]


def is_beside(name: str) -> bool:
    """Return whether the name is that of a tip that was set aside or of a diverted run."""
    return _ASIDE.fullmatch(name) is not None


def _joined(base: str, suffix: str) -> str:
    """Append the suffix; a base that is too long for it is cut."""
    while len(quote(base)) + len(suffix) > MAX_QUOTED:
        base = base[:-1].rstrip("./")
    return base + suffix
