"""Small JSON files that people may open: read with clear errors, written as a whole."""

from __future__ import annotations

import json
from typing import Any

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.storage import fs

MAX_BYTES = 1 << 20
"""A config file larger than this is not one."""


def read(path: str) -> dict[str, Any] | None:
    """Read one JSON object; None where there is no such file, MalformedObjectError if damaged."""
    raw = read_bytes(path, limit=MAX_BYTES)
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
    """Return a file's content, at most `limit` bytes; None where there is no such file."""
    try:
        return fs.read_file(path, limit=limit)
    except GradientIOError as error:
        if fs.is_missing(error):
            return None
        raise


def text(document: dict[str, Any], key: str) -> str | None:
    """Return a field if it is text."""
    value = document.get(key)
    return value if type(value) is str else None


def write_durable(path: str, document: dict[str, Any]) -> None:
    """Write a JSON object atomically and durably."""
    raw = json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"
    fs.replace_file(path, raw, durable=True)
