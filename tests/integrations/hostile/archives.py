"""Archives that are not what ``torch.save`` writes, or not what they say."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.integrations.hostile.making import archive, saved


def legacy(path: Path) -> None:
    torch.save({"w": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)


def legacy_tar(path: Path) -> None:
    with tarfile.open(path, "w") as out:
        for name in ("storages", "tensors", "pickle"):
            raw = pickle.dumps(1)
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            out.addfile(info, io.BytesIO(raw))


def zip_bomb(path: Path) -> None:
    entries = saved({"w": torch.zeros(4)})
    archive(path, [*entries, ("archive/data/9", bytes(64 << 20))], zipfile.ZIP_DEFLATED)


def deflated(path: Path) -> None:
    archive(path, saved({"w": torch.zeros(400)}), zipfile.ZIP_DEFLATED)


def two_names(path: Path) -> None:
    entries = saved({"w": torch.zeros(4)})
    with pytest.warns(UserWarning, match="Duplicate"):
        archive(path, [*entries, entries[0]])


def wrong_sum(path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(bytes(400)) + 100] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])


def appended(path: Path) -> None:
    torch.save({"w": torch.zeros(10)}, path)
    path.write_bytes(path.read_bytes() + bytes(100_000))


def prefixed(path: Path) -> None:
    torch.save({"w": torch.zeros(10)}, path)
    path.write_bytes(bytes(100_000) + path.read_bytes())


def script(path: Path) -> None:
    archive(path, [("a/constants.pkl", b"\x80\x02)."), ("a/code/x.py", b"import os")])


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def patched(path: Path, magic: bytes, at: int, raw: bytes) -> None:
    """Change a field behind each mark of a file that torch wrote."""
    torch.save({"w": torch.zeros(1000)}, path)
    content = bytearray(path.read_bytes())
    place = content.find(magic)
    while place >= 0:
        content[place + at : place + at + len(raw)] = raw
        place = content.find(magic, place + 1)
    path.write_bytes(content)


ARCHIVES: dict[str, Callable[[Path], None]] = {
    "encrypted": lambda path: patched(path, b"PK\1\2", 8, b"\1\0"),
    "an unknown method": lambda path: patched(path, b"PK\1\2", 10, b"\x63\0"),
    "another sum in the directory": lambda path: patched(path, b"PK\1\2", 16, bytes(4)),
    "other sizes in the directory": lambda path: patched(path, b"PK\1\2", 20, b"\4\0\0\0" * 2),
    "all entries in one place": lambda path: patched(path, b"PK\1\2", 42, bytes(4)),
    "other names in the directory": lambda path: patched(path, b"PK\1\2", 46, b"../../"),
    "more entries than there are": lambda path: patched(
        path, b"PK\6\6", 24, b"\xff\xff\0\0\0\0\0\0" * 2
    ),
    "a directory that is elsewhere": lambda path: patched(path, b"PK\6\6", 48, b"\1\0\0\0"),
    "no end": lambda path: patched(path, b"PK\5\6", 0, b"xxxx"),
}


def two_pickles(path: Path) -> None:
    entries = saved({"w": torch.zeros(4)})
    archive(path, [*entries, ("other/data.pkl", entries[0][1])])


def no_pickle(path: Path) -> None:
    archive(path, saved({"w": torch.zeros(4)})[1:])


MAKERS = (
    legacy,
    legacy_tar,
    zip_bomb,
    deflated,
    two_names,
    wrong_sum,
    cut,
    appended,
    prefixed,
    script,
    nothing,
    two_pickles,
    no_pickle,
)
