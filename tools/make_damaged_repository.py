"""Make tests/format/damaged-v1.tar from the golden repo: what is found in it is found for ever.

The archive holds the golden repo with one file of each kind damaged; the JSON beside it lists what
`gradient fsck` must find, and which commits are hit. Neither is ever made anew for format 1.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from gradient.maintenance.fsck.check import check

Make: TypeAlias = Callable[[Path], tuple[bytes, dict[str, Any]]]
"""Makes a repo inside a folder; returns its archive, and what describes it."""

NAME: Final = "damaged-v1"
GOLDEN: Final = Path(__file__).resolve().parents[1] / "tests" / "format" / "golden-v1.tar"


def damage(root: Path) -> None:
    """Damage a golden repo in several places."""
    inside = root / ".gradient-repo"
    packs = sorted(inside.glob("objects/pack/*.pack"))
    by_size = sorted(packs, key=lambda path: path.stat().st_size)
    _cut(by_size[0], 60)
    _flip(by_size[3], 300)
    _flip(by_size[1], by_size[1].stat().st_size - 150)
    (inside / "objects/pack/notes.txt").write_bytes(b"no pack\n")
    record = inside / "refs/heads/main/0000000000000003"
    _flip(record, 20)
    (inside / "refs/heads/main.old1/0000000000000002").write_bytes(b"{")
    (inside / "HEAD").write_bytes(b"fine/..\n")
    (root / "ckpt_main_s0.pt").write_bytes(b"PK\3\4 half a file")
    (root / "manifest.json").write_bytes(b'{"checkpoints": [')
    (inside / "tmp").mkdir()
    (inside / "tmp/0123456789abcdef").write_bytes(b"unfinished")


def _cut(path: Path, length: int) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-length])


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.unlink()
    path.write_bytes(content)


def describe(root: Path) -> dict[str, Any]:
    """Return what a check finds, in words that never change."""
    report = check(root, workers=1)
    return {
        "commits": report.commits,
        "damaged": sorted(report.damaged),
        "findings": [
            {
                "id": finding.id,
                "severity": finding.severity,
                "path": finding.path,
                "object": finding.oid,
                "commits": sorted(finding.commits),
            }
            for finding in report.findings
        ],
    }


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive of a workspace; return its repo."""
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return folder / f"golden-{archive.stem.partition('-')[2]}" / "gpt"


def pack(folder: Path) -> bytes:
    """Return a tar archive of a folder that depends on names and contents alone."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in _files(folder):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    return filter(Path.is_file, sorted(folder.rglob("*")))


def make(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Damage a copy of the golden repo inside a folder; return its archive and what is found."""
    root = unpack(GOLDEN, folder)
    damage(root)
    return pack(folder), describe(root)


def write(name: str, make: Make, description: str | None) -> None:
    """Make an archive and what describes it, and write both into the folder that was asked for."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the two files")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as scratch:
        archive, described = make(Path(scratch))
    (folder / f"{name}.tar").write_bytes(archive)
    (folder / f"{name}.json").write_text(json.dumps(described, indent=1) + "\n")
    print(f"{len(archive):,} bytes")


if __name__ == "__main__":
    write(NAME, make, __doc__)
