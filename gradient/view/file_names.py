"""The names of files that belong to a branch or a component."""

from __future__ import annotations

from typing import Final

from blake3 import blake3

PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
"""The bytes that are not escaped."""
_MOST = 200
_HEAD = 120


def file_name(branch: str, step: int) -> str:
    """Return ``ckpt_<branch>_s<step>.pt``."""
    return f"ckpt_{spelled(branch)}_s{step}.pt"


def spelled(name: str, *, plain: frozenset[int] = PLAIN) -> str:
    """Escape a name for use in a file name: bytes that are not `plain` become ``%XX``.

    A name that is too long is cut, and ends in ``~`` and a part of its hash.
    """
    octets = name.encode("utf-8")
    safe = "".join(chr(octet) if octet in plain else f"%{octet:02X}" for octet in octets)
    if len(safe) > _MOST:
        safe = f"{safe[:_HEAD]}~{blake3(octets).hexdigest()[:32]}"
    return safe
