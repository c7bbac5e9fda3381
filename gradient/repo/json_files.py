"""Small JSON files that people may open: readers with clear errors, and atomic writers."""

from __future__ import annotations

import json
from typing import Any

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.storage import fs

MAX_BYTES = 1 << 20
"""The limit for a config file."""


def read(path: str, *, limit: int = MAX_BYTES) -> dict[str, Any] | None:
    """Read one JSON object of at most `limit` bytes; None if the file does not exist.

    Raises MalformedObjectError if the content is damaged.
    """
    raw = read_bytes(path, limit=limit)
    if raw is None:
        return None
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedObjectError(f"{path} is damaged ({error}); restore it from a copy") from None
    if type(value) is not dict:
        raise MalformedObjectError(f"{path} does not hold a JSON object; restore it from a copy")
    return value


def read_bytes(path: str, *, limit: int | None = None) -> bytes | None:
    """Return a file's content, at most `limit` bytes; None if the file does not exist."""
    try:
        return fs.read_file(path, limit=limit)
    except GradientIOError as error:
        if fs.is_missing(error):
            return None
        raise


def text(document: dict[str, Any], key: str) -> str | None:
    """Return a field if it is text, else None."""
    value = document.get(key)
    return value if type(value) is str else None


def write(path: str, document: dict[str, Any]) -> None:
    """Replace a file with a JSON object, atomically; a power cut may leave an empty file."""
    fs.replace_file(path, _encode(document))


def write_durable(path: str, document: dict[str, Any], *, mode: int = 0o666) -> None:
    """Replace a file with a JSON object, atomically and durably; `mode` are its permissions."""
    fs.replace_file(path, _encode(document), durable=True, mode=mode)


def _encode(document: dict[str, Any]) -> bytes:
    # A lone surrogate (of a file name that is not UTF-8) becomes its escape in JSON.
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"
