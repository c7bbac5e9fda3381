"""The rules for the names of refs, and the names of their folders.

A name follows git's rules for refs, and a few more: it has no ``@`` (which separates the step in a
revision) and is not a word that revisions use. On disk it is quoted to lower-case ASCII, so that it
cannot leave its folder, and two names never share a folder on any file system.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from gradient.errors import InvalidNameError

MAX_QUOTED: Final = 200
"""The longest quoted name, in characters: file systems allow 255 for one part of a path."""

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-")
_FORBIDDEN: Final = frozenset(" ~^:?*[\\@")
_RESERVED: Final = frozenset({"head", "latest", "auto"})
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_QUOTED: Final = re.compile(r"(?:[a-z0-9._-]|%[0-9a-f]{2})+")


def check_name(name: str, existing: Iterable[str] = ()) -> None:
    """Raise InvalidNameError for a name that no branch or tag may have.

    Also for a name that differs from an existing one only in case or in the composition of its
    characters; the existing name itself is valid.
    """
    reason = _fault(name) or _fault(unicodedata.normalize("NFKC", name))
    if reason is None and unicodedata.normalize("NFC", name) != name:
        reason = "its characters are not in composed form (NFC)"
    if reason is None and len(quote(name)) > MAX_QUOTED:
        reason = f"it is too long (at most {MAX_QUOTED} characters when quoted)"
    if reason is not None:
        raise InvalidNameError(name, reason)
    folded = _fold(name)
    for other in existing:
        if other != name and _fold(other) == folded:
            raise InvalidNameError(name, f"it differs from the existing {other!r} only in case")


def quote(name: str) -> str:
    """Return the name in ``[a-z0-9._-]`` and ``%xx``, a unique form for each name."""
    octets = name.encode("utf-8")
    return "".join(chr(octet) if octet in _PLAIN else f"%{octet:02x}" for octet in octets)


def unquote(quoted: str) -> str | None:
    """Invert `quote`; None for text that `quote` does not return."""
    if _QUOTED.fullmatch(quoted) is None or quoted.startswith("."):
        return None  # no name begins with a dot, but files that file servers leave behind do
    octets = re.sub(rb"%(..)", lambda m: bytes.fromhex(m[1].decode()), quoted.encode("ascii"))
    try:
        name = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return name if quote(name) == quoted else None


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _fault(name: str) -> str | None:
    parts = name.split("/")
    if not name:
        return "it is empty"
    if "" in parts:
        return "it begins or ends with /, or contains //"
    if name.startswith("-"):
        return "it begins with -"
    if name.endswith("."):
        return "it ends with ."
    if ".." in name:
        return "it contains .."
    if any(part.startswith(".") for part in parts):
        return "a part begins with ."
    if any(part.lower().endswith(".lock") for part in parts):
        return "a part ends with .lock"
    for character in name:
        if character in _FORBIDDEN:
            return f"it contains {character!r}"
        if unicodedata.category(character) in _INVISIBLE:
            return f"it contains the invisible character U+{ord(character):04X}"
    if name.casefold() in _RESERVED:
        return "it is a word that revisions use"
    return None
