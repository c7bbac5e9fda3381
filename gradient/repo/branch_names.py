"""Which names branches may have, and the names that lines get when they are set aside."""

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
    """Refuse a name that no branch or tag may have; raises InvalidNameError.

    Also one that an existing name, other than itself, collides with.
    """
    check_name(name, existing)
    if _FULL_ID.fullmatch(name) is not None:
        raise InvalidNameError(name, "it reads like a commit id")


def is_branch_name(name: str, existing: Iterable[str] = ()) -> bool:
    """Whether a branch or tag may have this name."""
    try:
        check_branch_name(name, existing)
    except InvalidNameError:
        return False
    return True


def set_aside(branch: str) -> Iterator[str]:
    """Yield the names for a branch's former tips: ``B.old1``, ``B.old2``, …"""
    return (_joined(branch, f".old{number}") for number in count(1))


def diverted(branch: str) -> Iterator[str]:
    """Yield the names for runs that met another writer: ``B.run2``, ``B.run3``, …"""
    match = _RUN.fullmatch(branch)
    base = match[1] if match else branch
    return (_joined(base, f".run{number}") for number in count(2))


def lines_beside(branch: str, existing: Collection[str]) -> list[str]:
    """Return the lines that were set aside or diverted from a branch, oldest first."""
    found = []
    for name in existing:
        match = _ASIDE.fullmatch(name)
        if match is not None and match[1] == branch:
            found.append((int(match[2]), name))
    return [name for _, name in sorted(found)]


def is_beside(name: str) -> bool:
    """Whether the name is that of a line that was set aside or diverted."""
    return _ASIDE.fullmatch(name) is not None


def _joined(base: str, suffix: str) -> str:
    """Append the suffix; a base that leaves no room for it loses its end."""
    while len(quote(base)) + len(suffix) > MAX_QUOTED:
        base = base[:-1].rstrip("./")
    return base + suffix
