"""Everything that changes a repo, one row each: what every campaign here goes through.

A row is a function of a `Life`; it says what it is about to do, and does it as the commands do. To
add an operation is to add a row.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias
from unittest.mock import patch

from gradient.maintenance.forget import forget
from gradient.maintenance.fsck.repair import repair
from gradient.maintenance.garbage_collection import collect, undo
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo import paths, ref_edits
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.fork import fork_commit
from gradient.repo.repository import Repository
from gradient.repo.retention_rules import Keep
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage import fs
from gradient.store import index_compaction, repack
from gradient.view.init_repo import init_repo
from gradient.view.rebuild import rebuild
from gradient.view.updates import ViewUpdater, follow_refs
from tools.campaigns import synthetic_repo
from tools.campaigns.oracle import Life, Refs

Operation: TypeAlias = Callable[[Life], None]

_WITHOUT_A_PACK: Final = ("pack-extended", "object-missing", "ref-tip-lost", "commit-parent")
"""What a pack whose end is damaged, and what one that is being repaired, is to others."""
MAIN: Final = "heads/main"
_OLD: Final = "heads/main.old"
_POOL: Final = 12
"""So few families of chunks: what one commit drops, the next takes up."""


def numbers(step: int) -> list[int]:
    """Return the numbers of the chunks in the state of a step."""
    chance = random.Random(step)
    return [8 * chance.randrange(_POOL) + chance.randrange(8) for _ in range(3)]


@cache
def _tree(step: int) -> Oid:
    chunks = [Oid.of(Kind.BLOB, synthetic_repo.content(number)) for number in numbers(step)]
    return Oid.of(Kind.TREE, synthetic_repo.tree_of(chunks)[-1])


def is_right(_: Repository, __: Oid, commit: CommitRecord) -> bool:
    """Return whether a commit has the tree of its step."""
    return commit.tree == _tree(commit.step)


def make_world(folder: Path) -> tuple[Path, Refs]:
    """Make a repo with a little history, some of it garbage; returns its folder, and what it has.

    The same each time, but for the dates in its config.
    """
    init_workspace(folder)
    path = folder / "run"
    create_repo(path, "run", None, folder)
    life = Life(path, {}, lambda _: None, "world")
    for act in (commit, commit, fork, commit, tag, delete, commit):
        act(life)
    life.open().set_head("main")
    return path, life.refs


def begin(life: Life) -> None:
    """Create another repo with a workspace of its own, and commit to it."""
    workspace = life.path.parent / "other"
    inside = workspace / "run" / paths.REPO_FOLDER
    config = Path(paths.workspace_config(str(workspace)))
    with life.towards(life.refs, promise=lambda: [config]):
        init_workspace(workspace)
    folders = [inside / name for name in (paths.CONFIG, *paths.FOLDERS)]
    with life.towards(life.refs, promise=lambda: folders):
        init_repo(workspace / "run", "run", None, workspace)
    with life.towards(life.refs, promise=lambda: [*inside.glob("[or]*/[ph]*/**/*")]):
        repo = Repository.open(workspace / "run", workers=1)
        steps = synthetic_repo.read_everything(workspace / "run").get("main", [])
        synthetic_repo.commit(synthetic_repo.go_on(repo, "main"), len(steps), *numbers(len(steps)))


def commit(life: Life) -> None:
    """Commit to main; every third commit is stored as deltas."""
    before = life.refs.get(MAIN, [])
    step = before[-1] + 1 if before else 1
    with life.towards(life.with_line(MAIN, [*before, step])):
        line = synthetic_repo.go_on(life.open(), "main")
        synthetic_repo.commit(line, step, *numbers(step), lean=step % 3 == 0)


def commits(life: Life) -> None:
    """Make two commits with the same writer."""
    line = synthetic_repo.go_on(life.open(), "main")
    for _ in range(2):
        before = life.refs[MAIN]
        step = before[-1] + 1
        with life.towards(life.with_line(MAIN, [*before, step])):
            synthetic_repo.commit(line, step, *numbers(step))


def rewind(life: Life) -> None:
    """Rewind main and commit there; the old tip is set aside."""
    before = life.refs[MAIN]
    line = BranchWriter.open(life.open(), "main")
    oids = [oid for oid, _ in line.repo.line("main")]
    named = [ref for ref, steps in life.refs.items() if ref.startswith(_OLD) and steps == before]
    kept = life.with_line((*named, f"{_OLD}{following(life, _OLD)}")[0], before)
    step = before[-1] + 1
    with life.towards(kept, {**kept, MAIN: [*before[:-1], step]}):
        synthetic_repo.commit(line.moved_to((*oids, None)[1]), step, *numbers(step))


def fork(life: Life) -> None:
    """Fork a branch with a commit of its own."""
    repo = life.open()
    number = following(life, "heads/side")
    steps = life.refs[MAIN]
    whole = [commit.step for oid, commit in repo.line("main") if oid not in repo.dropped()]
    source = repo.resolve(f"main@{life.chance.choice(whole)}")
    at = steps[: steps.index(source.commit.step) + 1]
    with life.towards(life.with_line(f"heads/side{number}", [*at, at[-1]])):
        fork_commit(repo, source, f"side{number}")


def branch(life: Life, name: str = "") -> None:
    """Tag the tip."""
    repo = life.open()
    name = name or f"side{following(life, 'heads/side')}"
    tip = repo.tip("main")
    assert tip is not None
    with life.towards(life.with_line(f"heads/{name}", life.refs[MAIN])):
        ref_edits.create_branch(repo, name, tip)


def branch_with_another(life: Life) -> None:
    """Tag the tip after a process died before it synced the folder of the branch."""
    name = f"shared{following(life, 'heads/shared')}"
    fs.make_folders(str(life.path / paths.REPO_FOLDER / "refs/heads" / name))
    branch(life, name)


def commit_with_another(life: Life) -> None:
    """Commit chunks of a process that died before it synced the name of its pack."""
    before = life.refs[MAIN]
    step = before[-1] + 1
    with life.towards(life.with_line(MAIN, [*before, step])):
        with _dying("sync folder", "objects/pack"), suppress(_DeadError):
            synthetic_repo.commit(synthetic_repo.go_on(life.open(), "main"), step, *numbers(step))
        synthetic_repo.commit(synthetic_repo.go_on(life.open(), "main"), step, *numbers(step))


def commit_without_links(life: Life) -> None:
    """Commit on a file system without hard links, on which a record may be torn."""
    before = life.refs[MAIN]
    step = before[-1] + 1
    with (
        life.towards(life.with_line(MAIN, [*before, step]), damage=("record-torn",)),
        _refusing("link"),
    ):
        synthetic_repo.commit(synthetic_repo.go_on(life.open(), "main"), step, *numbers(step))


def gc_without_links(life: Life) -> None:
    """Collect on a file system without hard links."""
    with life.towards(life.refs), _refusing("link"):
        collect(life.open(), grace=0.0, wait=1.0)


def rename(life: Life) -> None:
    """Rename a branch; for a moment it has both names."""
    old = pick(life, "heads/side")
    tip = life.open().tip(old)
    assert tip is not None
    with life.towards(life.refs):
        ViewUpdater(life.open(), "thin").add(tip)
    name = f"side{following(life, 'heads/side')}"
    both = life.with_line(f"heads/{name}", life.refs[f"heads/{old}"])
    with life.towards(both, {ref: line for ref, line in both.items() if ref != f"heads/{old}"}):
        ref_edits.rename_branch(life.open(), old, name)
        follow_refs(life.open())


def delete(life: Life, name: str = "") -> None:
    """Delete a branch; its commits become garbage."""
    name = name or pick(life, "heads/side")
    repo = life.open()
    if repo.active_branch() == name:
        repo.set_head("main")
    with life.towards(life.with_line(f"heads/{name}", None)):
        ref_edits.delete_branch(repo, name)


def tag(life: Life) -> None:
    """Tag the tip permanently."""
    repo = life.open()
    name = f"tag{following(life, 'tags/tag')}"
    tip = repo.tip("main")
    assert tip is not None
    with life.towards(life.with_line(f"tags/{name}", life.refs[MAIN])):
        ref_edits.create_tag(repo, name, tip, reason="tag", force=False)


def untag(life: Life) -> None:
    """Delete a tag."""
    name = pick(life, "tags/tag")
    with life.towards(life.with_line(f"tags/{name}", None)):
        ref_edits.delete_tag(life.open(), name)


def switch(life: Life) -> None:
    """Switch to another active branch and back to main."""
    head = life.path / paths.REPO_FOLDER / paths.HEAD
    for name in (pick(life, "heads/side"), "main"):
        with life.towards(life.refs, promise=lambda: [head]):
            life.open().set_head(name)


def gc(life: Life) -> None:
    """Remove unreachable objects without a grace period."""
    with life.towards(life.refs):
        collect(life.open(), grace=0.0, wait=1.0)


def take_back(life: Life) -> None:
    """Delete a branch, collect with a grace period, restore the branch, and commit to it."""
    name = pick(life, "heads/side")
    line = life.refs[f"heads/{name}"]
    oid = life.open().tip(name)
    assert oid is not None
    delete(life, name)
    with life.towards(life.with_line(f"heads/{name}", line)):
        collect(life.open(), grace=3600.0, wait=1.0, clock=lambda: time.time() + 7200.0)
        undo(life.open())
        ref_edits.create_branch(life.open(), name, oid)


def let_go(life: Life) -> None:
    """Forget all but the newest two commits of each branch."""
    with life.towards(life.refs):
        forget(life.open(), Keep(last=2), grace=0.0, wait=1.0)


def mend(life: Life) -> None:
    """Repair damage that loses nothing: in HEAD, at the end of a pack, in a record."""
    inside = life.path / paths.REPO_FOLDER
    pack = max(inside.glob("objects/pack/*"))
    record = max(inside.glob("refs/heads/main/*"))
    damage = {
        pack: pack.read_bytes() + b"x",
        record.with_name(f"{int(record.name) + 1:016d}"): b"{",
        inside / paths.HEAD: b"..\n",
    }
    classes = (*_WITHOUT_A_PACK, "head-malformed", "record-torn")
    kept = inside / "lost+found"
    with life.towards(life.refs, damage=classes, promise=lambda: kept.rglob("*")):
        for path, content in damage.items():
            life.spoil(path, content)
        _repair(life)


def mend_config(life: Life) -> None:
    """Repair a repo whose config was damaged."""
    config = life.path / paths.REPO_FOLDER / paths.CONFIG
    classes = ("config-malformed", "config-missing")
    with life.towards(life.refs, damage=classes, promise=lambda: [config]):
        life.spoil(config, b"{")
        _repair(life)


def _repair(life: Life) -> None:
    if not repair(str(life.path), workers=1).after.is_sound:
        repair(str(life.path), workers=1)  # it said what it could not do, and nothing is lost


def merge_packs(life: Life) -> None:
    """Copy every needed frame to new packs."""
    with life.towards(life.refs), patch.object(repack, "MANY", 1):
        collect(life.open(), grace=0.0, wait=1.0)


def recompress(life: Life) -> None:
    """Encode every needed frame in another form, whether it saves space or not."""
    with life.towards(life.refs), patch.object(repack, "MAX_SHARE", 2.0):
        collect(life.open(), grace=0.0, wait=1.0, recompress=True)


def ledger(life: Life) -> None:
    """Write the multi-pack index."""
    with life.towards(life.refs):
        repo = life.open()
        repo.store.refresh()
        index_compaction.compact(repo.store.catalogue, repo.storage, min_packs=1)


def view(life: Life) -> None:
    """Update the manifest and the thin files."""
    with life.towards(life.refs):
        repo = life.open()
        tip = repo.tip("main")
        assert tip is not None
        files = ViewUpdater(repo, "thin")
        files.add(tip)
        files.close()


def rebuild_view(life: Life) -> None:
    """Rebuild the view."""
    with life.towards(life.refs):
        for path in life.path.glob("ckpt_*.pt"):
            path.unlink()
        rebuild(life.open(), mode="thin")


OPERATIONS: Final[dict[str, Operation]] = {
    "a new repo": begin,
    "commit": commit,
    "two commits": commits,
    "commit after a rewind": rewind,
    "fork": fork,
    "branch": branch,
    "branch whose folder another began": branch_with_another,
    "commit what another began": commit_with_another,
    "commit without hard links": commit_without_links,
    "gc without hard links": gc_without_links,
    "rename a branch": rename,
    "delete a branch": lambda life: delete(life),
    "tag": tag,
    "delete a tag": untag,
    "switch": switch,
    "gc": gc,
    "delete, undo, begin again": take_back,
    "forget": let_go,
    "repair": mend,
    "repair the config": mend_config,
    "repack": merge_packs,
    "recompress": recompress,
    "ledger": ledger,
    "view": view,
    "view rebuild": rebuild_view,
}
"""The operations by name; none needs torch."""


def pick(life: Life, start: str) -> str:
    """Return an existing name, after creating one if there is none."""
    if not any(ref.startswith(start) for ref in life.refs):
        tag(life) if start.startswith("tags/") else fork(life)
    found = sorted(ref for ref in life.refs if ref.startswith(start))
    return life.chance.choice(found).partition("/")[2]


def following(life: Life, start: str) -> int:
    """Return a number that no ref with this prefix uses."""
    taken = [ref.removeprefix(start) for ref in life.refs if ref.startswith(start)]
    return max((int(each) for each in taken if each.isdigit()), default=0) + 1


class _DeadError(BaseException):
    """Simulates SIGKILL of another process; no code catches it."""


def _dying(operation: str, path: str) -> AbstractContextManager[None]:
    """Kill the simulated process before such a call."""
    return _meeting(operation, path, _DeadError())


def _refusing(operation: str) -> AbstractContextManager[None]:
    """Make the file system refuse such calls."""
    return _meeting(operation, "", OSError(errno.EPERM, os.strerror(errno.EPERM)))


@contextmanager
def _meeting(operation: str, path: str, error: BaseException) -> Iterator[None]:
    """Replace the result of such calls, and pass other calls to the current observer."""
    before = fs.calls.observer

    def watch(call: fs.Call) -> int | None:
        if call.operation == operation and call.path.endswith(path):
            raise error
        return None if before is None else before(call)

    fs.calls.observer = watch
    try:
        yield
    finally:
        fs.calls.observer = before
