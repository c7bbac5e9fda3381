"""The probes behind `gradient doctor`: each tries one promise of the file system under a folder.

The probes run in a scratch folder, which is always removed.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import PurePath
from typing import Final, Literal, TypeAlias

from gradient._version import __version__
from gradient.errors import GradientError, GradientIOError
from gradient.maintenance.doctor import link_race
from gradient.maintenance.fsck.check import check
from gradient.maintenance.logical_size import LogicalSize, weigh
from gradient.repo import paths
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs

Verdict: TypeAlias = Literal["ok", "note", "warning", "failed"]
"""``failed``: commits are not safe here. ``warning``: a limitation to know before relying on it."""

SHARED: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "9p", "virtiofs", "afs", "ocfs2", "gfs2"),
        *("fuse.juicefs", "fuse.gcsfuse", "fuse.s3fs", "fuse.mount-s3", "fuse.rclone", "wekafs"),
    }
)
"""File system types that several machines may share."""

VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
"""File system types that a restart empties."""

ROUNDS: Final = 200
"""The number of names that two processes race for."""

_LITTLE: Final = 1 << 30
_FEW_FILES: Final = 10_000
_FEW_COMMITS: Final = 10
_SKEW: Final = 2.0


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of one probe."""

    name: str
    """A stable word."""
    verdict: Verdict
    """Its verdict."""
    message: str
    """The observation."""
    remedy: str = ""
    """The remedy."""


def examine(path: str | os.PathLike[str]) -> list[Probe]:
    """Run all probes in a folder, and check the repo in it, if there is one."""
    root = fs.absolute(path)
    probes = [_versions()]
    scratch = f"{root}/.gradient-doctor-{uuid.uuid4().hex[:12]}"
    try:
        fs.make_folders(scratch)
    except GradientIOError as error:
        remedy = "choose a folder that you may write into"
        probes.append(Probe("writable", "failed", str(error), remedy))
        probes += [*_place(root), *_repo(root)]
        return probes
    try:
        for name, probe in _PROBES.items():
            probes.append(_tried(name, probe, scratch))
    finally:
        fs.discard_folder(scratch)
    probes += [*_place(root), *_repo(root)]
    return probes


def _tried(name: str, probe: Callable[[str], Probe], scratch: str) -> Probe:
    try:
        return probe(scratch)
    except GradientIOError as error:
        return Probe(name, "failed", str(error), "choose another folder for the workspace")


def _versions() -> Probe:
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Probe("versions", "failed", "torch is not installed", "pip install torch")
    python = platform.python_version()
    return Probe("versions", "ok", f"gradient {__version__}, Python {python}, torch {torch}")


def _exclusive_create(scratch: str) -> Probe:
    path = f"{scratch}/exclusive"
    fs.create(path).close()
    try:
        fs.create(path).close()
    except GradientIOError:
        return Probe("exclusive-create", "ok", "a file is created once")
    remedy = "two writers could overwrite each other: choose another folder"
    return Probe("exclusive-create", "failed", "one name was created twice", remedy)


def _link(scratch: str) -> Probe:
    """Let two processes race for names; each name must go to exactly one of them."""
    try:
        _put(f"{scratch}/linked")
        fs.link(f"{scratch}/linked", f"{scratch}/linked.2")
    except GradientIOError as error:
        remedy = "commits work by exclusive creation; a kill can leave a torn record, harmlessly"
        return Probe("link", "note", f"there are no hard links here ({error.strerror})", remedy)
    folder = f"{scratch}/contended"
    fs.make_folders(folder)
    # The child is to find this very package, wherever it was imported from.
    package = str(PurePath(link_race.__file__).parents[3])
    other = subprocess.Popen(
        [sys.executable, "-c", _CHILD, package, folder, "other", str(ROUNDS)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        own = link_race.contend(folder, "own", ROUNDS)
        other.wait(timeout=60)
    except subprocess.TimeoutExpired:
        own = None
    finally:
        other.kill()  # harmless where it ended
        other.wait()
    theirs = link_race.result(folder, "other")
    if own is None or theirs is None:
        remedy = "try again; it needs to start a second Python"
        return Probe("link", "warning", "the second process did not take part", remedy)
    if own + theirs == ROUNDS:
        message = f"{ROUNDS} names, two processes ({own} and {theirs}): each went to one"
        return Probe("link", "ok", message)
    message = f"{own} and {theirs} of {ROUNDS} names were won: some by both, or by none"
    remedy = "two writers could overwrite each other's commits: choose another folder"
    return Probe("link", "failed", message, remedy)


_CHILD: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from gradient.maintenance.doctor import link_race; "
    "link_race.contend(sys.argv[2], sys.argv[3], int(sys.argv[4]))"
)


def _rename(scratch: str) -> Probe:
    old, new = f"{scratch}/renamed", f"{scratch}/renamed.new"
    fs.replace_file(old, b"old")
    with fs.open_file(old) as file:
        _put(new)
        fs.rename(new, old)
        kept = bytearray(3)
        file.read_into(0, memoryview(kept))
    if fs.read_file(old) == b"x" and bytes(kept) == b"old":
        return Probe("rename", "ok", "a file is replaced at once, and its readers keep the old one")
    remedy = "a reader could see half a file: choose another folder"
    return Probe("rename", "failed", "a file that was replaced changed under its reader", remedy)


def _sync(scratch: str) -> Probe:
    begun = time.perf_counter()
    with fs.create(f"{scratch}/synced") as file:
        file.write(b"x" * 4096)
        synced = {"a file": file.sync()}
    synced["a folder"] = fs.sync_folder(scratch)
    took = (time.perf_counter() - begun) * 1000
    if not all(synced.values()):
        what = " and ".join(name for name, done in synced.items() if not done)
        remedy = "a power cut may lose the newest commits, a kill will not: keep a copy elsewhere"
        return Probe("sync", "warning", f"the file system has no way to sync {what}", remedy)
    return Probe("sync", "ok", f"a file and its folder were synced in {took:.1f} ms")


def _lock(scratch: str) -> Probe:
    path = f"{scratch}/locked"
    _put(path)
    with fs.open_file(path) as one, fs.open_file(path) as two:
        first, second = fs.try_lock(one), fs.try_lock(two)
    if first and not second:
        return Probe("lock", "ok", "flock keeps a second one out; Gradient does not need it")
    return Probe("lock", "note", "flock keeps nobody out here; Gradient does not need it")


def _clock(scratch: str) -> Probe:
    path = f"{scratch}/dated"
    before = time.time()
    _put(path)
    facts = fs.status(path)
    skew = 0.0 if facts is None else facts.st_mtime - before
    if abs(skew) < _SKEW:
        return Probe("clock", "ok", "the file system's clock is this machine's")
    message = f"the file system's clock is {skew:+.1f} s off this machine's"
    remedy = "no commit depends on it; what killed writers left behind may be kept for longer"
    return Probe("clock", "note", message, remedy)


def _put(path: str) -> None:
    with fs.create(path) as file:
        file.write(b"x")


_PROBES: Final[dict[str, Callable[[str], Probe]]] = {
    "exclusive-create": _exclusive_create,
    "link": _link,
    "rename": _rename,
    "sync": _sync,
    "lock": _lock,
    "clock": _clock,
}
"""The probes that run in the scratch folder."""


def _place(root: str) -> Iterator[Probe]:
    kind = fs.mount_type(root)
    if kind is None:
        yield Probe("file-system", "note", "the system does not tell its type")
    elif kind in VOLATILE:
        remedy = "put the workspace on a disk"
        yield Probe("file-system", "warning", f"{kind}: a restart empties it", remedy)
    elif kind in SHARED:
        message = f"{kind}: several machines may write here at once, which is fine"
        yield Probe("file-system", "note", message)
    else:
        yield Probe("file-system", "ok", f"{kind}, local")
    yield _room(root)


def _room(root: str) -> Probe:
    free, files = fs.free_bytes(root), fs.free_files(root)
    little = free < _LITTLE or (files is not None and files < _FEW_FILES)
    count = "any number of" if files is None else f"{files:,}"
    message = f"{free / (1 << 20):,.1f} MiB and {count} files are free"
    weight = _weight(root)
    more = None if weight is None else weight.commits_within(free)
    if weight is not None and weight.mean_bytes is not None and more is not None:
        mean = weight.mean_bytes / (1 << 20)
        commits = "commit" if more == 1 else "commits"
        message += f": about {more:,} more {commits}, at {mean:,.2f} MiB each so far"
        little |= more < _FEW_COMMITS
    remedy = "free some space, or let go of old states: gradient forget, gradient gc --grace 0"
    return Probe("room", "warning" if little else "ok", message, remedy * little)


def _weight(root: str) -> LogicalSize | None:
    """Return the logical size of the repo in a folder; None if none can be read."""
    if fs.kind(paths.inside(root)) != "folder":
        return None
    try:
        repo = Repository.open(root)
        return weigh(repo, History(repo))
    except GradientError:
        return None  # what is wrong, the last probe says


def _repo(root: str) -> Iterator[Probe]:
    if fs.kind(paths.inside(root)) != "folder":
        return
    try:
        report = check(root, quick=True)
        packs, stored = Repository.open(root).store.pack_totals()
    except GradientError as error:
        yield Probe("repo", "failed", str(error), "gradient fsck")
        return
    if not report.is_sound:
        message = f"{report.count('error')} errors in structure and history"
        yield Probe("repo", "failed", message, "gradient fsck lists them, and --repair saves")
        return
    message = f"{report.commits} commits in {packs} packs, {stored / (1 << 20):,.1f} MiB: in order"
    yield Probe("repo", "ok", message + "; gradient fsck looks at contents too")
