"""The checks of derived files: multi-pack indexes ("ledgers"), manifest and view files. All of them
can be rebuilt.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath

from gradient.errors import GradientIOError
from gradient.maintenance.fsck.findings import Finding
from gradient.objects.oid import Oid
from gradient.repo import foreign_files, json_files, paths
from gradient.repo.foreign_files import Mark
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store import multi_pack_index as ledgers
from gradient.store.pack import Pack

_MOST_MANIFEST_BYTES = 256 << 20


def check_ledgers(repo: str, packs: Collection[Pack]) -> Iterator[Finding]:
    """Compare each ledger with its packs."""
    storage = DirectoryStorage(paths.inside(repo))
    known = {pack.id: pack for pack in packs}
    for name in fs.names(paths.inside(repo, ledgers.FOLDER)):
        path = f"{paths.REPO_FOLDER}/{ledgers.FOLDER}/{name}"
        if not name.endswith(ledgers.SUFFIX):
            continue
        place = paths.inside(repo, ledgers.FOLDER, name)
        told = None
        if fs.kind(place) == "file":
            ledger = ledgers.read(storage, f"{ledgers.FOLDER}/{name}")
            told = None if ledger is None else ledger.packs(storage)
        if told is None and fs.kind(place) is None:
            continue  # replaced by a newer one meanwhile
        if told is None:
            yield Finding("ledger-malformed", path, "it does not prove right")
        elif any(_differ(pack, known.get(pack.id)) for pack in told):
            yield Finding("ledger-wrong", path, "it says of a pack what that does not")


def _differ(told: Pack, pack: Pack | None) -> bool:
    if pack is None:
        return False
    return told.size != pack.size or told.index_bytes != pack.index_bytes


def check_leftovers(repo: str) -> Iterator[Finding]:
    """List the files that killed writers left in ``tmp/``."""
    folder = paths.inside(repo, "tmp")
    if fs.kind(folder) != "folder":
        return
    for name in fs.names(folder):
        size = fs.size(f"{folder}/{name}") or 0
        path = f"{paths.REPO_FOLDER}/tmp/{name}"
        yield Finding("leftover", path, f"{size:,} bytes that no writer finished, or is writing")


def check_view(
    repo: str, commits: Collection[Oid], listed: Mapping[Oid, str] | None
) -> Iterator[Finding]:
    """Compare the manifest and the view files with the commits.

    `listed` are the commits that the manifest should list, with their revisions; None if unknown.
    """
    path = paths.beside(repo, paths.MANIFEST)
    what = fs.kind(path)
    if what == "file":
        yield from _check_manifest(repo, path, listed)
    elif what is not None:
        yield Finding("manifest-malformed", paths.MANIFEST, f"it is a {what}")
    for name in foreign_files.checkpoint_names(repo):
        mark = foreign_files.read_mark(paths.beside(repo, name))
        if mark == "damaged":
            yield Finding("view-damaged", name, "it is cut off")
        elif not isinstance(mark, Mark):
            reason = "it has no mark of ours" if mark == "foreign" else "it is no regular file"
            yield Finding("view-foreign", name, reason)
        elif mark.commit not in commits:
            yield Finding("view-stale", name, f"no commit is called {mark.commit}")


def _check_manifest(repo: str, path: str, listed: Mapping[Oid, str] | None) -> Iterator[Finding]:
    try:
        raw = json_files.read_bytes(path, limit=_MOST_MANIFEST_BYTES) or b""
        entries = json.loads(raw)["checkpoints"]
        by_id = {str(entry["id"]): entry for entry in entries if foreign_files.is_ours(entry)}
        theirs = foreign_files.foreign_entries(raw)
    except (GradientIOError, ValueError, RecursionError, KeyError, TypeError) as error:
        yield Finding("manifest-malformed", paths.MANIFEST, f"it can not be read: {error!r:.200}")
        return
    if theirs:
        shown = ", ".join(theirs[:3])
        yield Finding("manifest-foreign", paths.MANIFEST, f"it lists {shown:.200}")
    if listed is None:
        return
    wanted = {str(oid): revision for oid, revision in listed.items()}
    stale = [str(e.get("ref")) for word, e in by_id.items() if wanted.get(word) != e.get("ref")]
    absent = [revision for word, revision in wanted.items() if word not in by_id]
    if stale:
        yield Finding("manifest-stale", paths.MANIFEST, f"it lists {', '.join(stale[:3]):.200}")
    if absent:
        yield Finding("manifest-missing", paths.MANIFEST, f"it lacks {', '.join(absent[:3])}")
    files = (str(e["file"]) for e in by_id.values() if type(e.get("file")) is str)
    here = set(fs.names(repo))
    for name in sorted({PurePath(file).name for file in files} - here):
        yield Finding("view-missing", name, "the manifest lists it")
