"""Full disks: commit to real disks of many sizes until a commit fails, then free space.

On each disk, commits are made until one fails with a clear error. Then `fsck` must report no
damage, all acknowledged commits must be intact, and a collection on the full disk must free enough
space for the next commit. Needs root to mount a tmpfs, or ext4 in a file.

    python -m tools.campaigns.full_disk --tmpfs 200 --ext4 50
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gradient.errors import GradientIOError
from gradient.maintenance.garbage_collection import collect
from gradient.storage.directory import NO_ROOM
from tools.campaigns import operations, synthetic_repo
from tools.campaigns.operations import MAIN
from tools.campaigns.oracle import Client, Inspector, ViolationError, allowed

_LEAST: Final = 512 << 10
_STEP: Final = 4 << 10
_EXT4: Final = 1 << 20
"""The bytes added for the tables of ext4, which is also its least size."""


class CanNotMountError(Exception):
    """This process may not mount file systems here."""


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system of this size in memory."""
    folder.mkdir()
    with _mounted(["-t", "tmpfs", "-o", f"size={size}", "tmpfs"], folder):
        yield folder


@contextmanager
def ext4(folder: Path, size: int) -> Iterator[Path]:
    """Mount ext4 in a file that is larger by a mebibyte."""
    folder.mkdir()
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(_EXT4 + size)
    command = ["mkfs.ext4", "-q", "-m", "0", "-N", "256", str(image)]
    subprocess.run(command, check=True, capture_output=True)
    with _mounted(["-o", "loop", str(image)], folder):
        yield folder


@contextmanager
def _mounted(what: list[str], folder: Path) -> Iterator[None]:
    done = subprocess.run(["mount", *what, str(folder)], capture_output=True, check=False)
    if done.returncode:
        raise CanNotMountError(done.stderr.decode())
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> int:
    """Commit until the disk is full, then free space; return the number of commits.

    Raises ViolationError for a violated guarantee, and GradientIOError if the disk is too small.
    """
    path, refs = operations.make_world(disk / "work")
    said: list[str] = []
    client = Client(path, refs, said.append)
    spare = synthetic_repo.go_on(client.open(), "spare")
    for step in range(1, 5):
        synthetic_repo.commit(spare, step, 800 * step, 900 * step)
    synthetic_repo.delete(client.open(), "spare")  # so there is something to collect
    try:
        while len(client.refs[MAIN]) < 500:
            operations.commit(client)
        raise ViolationError("the disk is never full")
    except GradientIOError as error:
        if error.errno not in NO_ROOM:
            raise ViolationError(f"a full disk is called {error}") from error
    # To the last byte: what is left of the last block goes, too.
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        for size in (4096, 512, 64, 1):
            try:
                while ballast.write(bytes(size)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    inspector = Inspector(path, operations.is_right)
    client.refs = inspector.inspect(allowed(refs, said))
    before = _free(disk)
    done = collect(client.open(), grace=0.0, wait=1.0)
    if not done.removed or _free(disk) <= before:
        raise ViolationError(f"a collection on a full disk freed nothing: {done}")
    client.refs = inspector.inspect([client.refs])
    operations.commit(client)
    inspector.inspect([client.refs])
    return len(client.refs[MAIN])


def _free(disk: Path) -> int:
    facts = os.statvfs(disk)
    return facts.f_bavail * facts.f_frsize


def main(arguments: list[str] | None = None) -> int:
    """Fill the disks and print the results; raises ViolationError or CanNotMountError."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.full_disk")
    parser.add_argument("--tmpfs", type=int, default=200, help="disks in memory (default 200)")
    parser.add_argument("--ext4", type=int, default=50, help="disks of ext4 (default 50)")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    commits = 0
    with tempfile.TemporaryDirectory() as scratch:
        for kind, count in ((tmpfs, options.tmpfs), (ext4, options.ext4)):
            for number in range(count):
                size = _LEAST + number * _STEP
                with kind(Path(scratch, f"{kind.__name__}{number}"), size) as disk:
                    try:
                        commits += fill(disk)
                    except ViolationError as error:
                        raise ViolationError(f"{kind.__name__} of {size} bytes: {error}") from error
    print(
        f"{options.tmpfs} disks in memory and {options.ext4} of ext4 filled with {commits:,} "
        f"commits, read and emptied in {time.monotonic() - begun:.0f} s; nothing lost; Python "
        f"{platform.python_version()}"
    )
    return 0


if __name__ == "__main__":
    logging.getLogger("gradient").setLevel(logging.CRITICAL)  # what it warns of is asked for here
    sys.exit(main())
