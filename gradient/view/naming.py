"""What a commit's view file is called."""

from __future__ import annotations

from typing import Final

from blake3 import blake3

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_MOST = 200
_HEAD = 120


def file_name(branch: str, step: int) -> str:
    """Return ``ckpt_<branch>_s<step>.pt``, other characters of the branch as ``%XX``.

    A branch too long for a file name ends in ``~`` and a part of its hash, which no branch does.
    """
    octets = branch.encode("utf-8")
    safe = "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in octets)
    if len(safe) > _MOST:
        safe = f"{safe[:_HEAD]}~{blake3(octets).hexdigest()[:32]}"
    return f"ckpt_{safe}_s{step}.pt"
