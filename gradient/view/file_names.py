"""What files are called that are named after a branch or a component."""

from __future__ import annotations

from typing import Final

from blake3 import blake3

PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
"""What stands for itself."""
_MOST = 200
_HEAD = 120


def file_name(branch: str, step: int) -> str:
    """Return ``ckpt_<branch>_s<step>.pt``."""
    return f"ckpt_{spelled(branch)}_s{step}.pt"


def spelled(name: str, *, plain: frozenset[int] = PLAIN) -> str:
    """Spell a name so that it leads nowhere in a file's name: what is not `plain` as ``%XX``.

    One that is too long for a file ends in ``~`` and a part of its hash, which no other does.
    """
    octets = name.encode("utf-8")
    safe = "".join(chr(octet) if octet in plain else f"%{octet:02X}" for octet in octets)
    if len(safe) > _MOST:
        safe = f"{safe[:_HEAD]}~{blake3(octets).hexdigest()[:32]}"
    return safe
