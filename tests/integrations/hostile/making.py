"""Pieces of the files that somebody made to do harm."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch


class Run:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def saved(value: Any) -> list[tuple[str, bytes]]:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def archive(
    path: Path, entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in entries:
            out.writestr(name, content)


def with_pickle(path: Path, raw: bytes, value: Any = None) -> None:
    entries = saved({"w": torch.zeros(4)} if value is None else value)
    archive(path, [(n, raw if n.endswith("data.pkl") else c) for n, c in entries])
