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
    """Return which chunks the state of a step holds."""
    chance = random.Random(step)
    return [8 * chance.randrange(_POOL) + chance.randrange(8) for _ in range(3)]


@cache
def _tree(step: int) -> Oid:
    chunks = [Oid.of(Kind.BLOB, synthetic_repo.content(number)) for number in numbers(step)]
    return Oid.of(Kind.TREE, synthetic_repo.tree_of(chunks)[-1])


def is_right(_: Repository, __: Oid, commit: CommitRecord) -> bool:
    """Whether a commit holds what one of its step holds: its tree has the name that has."""
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
    """Make another repo, with a workspace of its own, and commit there."""
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
    """Go on on main; every third commit as differences from others."""
    before = life.refs.get(MAIN, [])
    step = before[-1] + 1 if before else 1
    with life.towards(life.with_line(MAIN, [*before, step])):
        line = synthetic_repo.go_on(life.open(), "main")
        synthetic_repo.commit(line, step, *numbers(step), lean=step % 3 == 0)


def commits(life: Life) -> None:
    """Commit twice by the same writer."""
    line = synthetic_repo.go_on(life.open(), "main")
    for _ in range(2):
        before = life.refs[MAIN]
        step = before[-1] + 1
        with life.towards(life.with_line(MAIN, [*before, step])):
            synthetic_repo.commit(line, step, *numbers(step))


def rewind(life: Life) -> None:
    """Go back on main and commit from there: the old tip is set aside."""
    before = life.refs[MAIN]
    line = BranchWriter.open(life.open(), "main")
    oids = [oid for oid, _ in line.repo.line("main")]
    named = [ref for ref, steps in life.refs.items() if ref.startswith(_OLD) and steps == before]
    kept = life.with_line((*named, f"{_OLD}{following(life, _OLD)}")[0], before)
    step = before[-1] + 1
    with life.towards(kept, {**kept, MAIN: [*before[:-1], step]}):
        synthetic_repo.commit(line.moved_to((*oids, None)[1]), step, *numbers(step))


def fork(life: Life) -> None:
    """Begin a branch with a commit of its own."""
    repo = life.open()
    number = following(life, "heads/side")
    steps = life.refs[MAIN]
    whole = [commit.step for oid, commit in repo.line("main") if oid not in repo.dropped()]
    source = repo.resolve(f"main@{life.chance.choice(whole)}")
    at = steps[: steps.index(source.commit.step) + 1]
    with life.towards(life.with_line(f"heads/side{number}", [*at, at[-1]])):
        fork_commit(repo, source, f"side{number}")


def branch(life: Life, name: str = "") -> None:
    """Name the tip once more."""
    repo = life.open()
    name = name or f"side{following(life, 'heads/side')}"
    tip = repo.tip("main")
    assert tip is not None
    with life.towards(life.with_line(f"heads/{name}", life.refs[MAIN])):
        ref_edits.create_branch(repo, name, tip)


def branch_with_another(life: Life) -> None:
    """Name the tip; the branch's folder was made by a process that did not live to sync it."""
    name = f"shared{following(life, 'heads/shared')}"
    fs.make_folders(str(life.path / paths.REPO_FOLDER / "refs/heads" / name))
    branch(life, name)


def commit_with_another(life: Life) -> None:
    """Commit what a process wrote that did not live to sync the name of its pack."""
    before = life.refs[MAIN]
    step = before[-1] + 1
    with life.towards(life.with_line(MAIN, [*before, step])):
        with _dying("sync folder", "objects/pack"), suppress(_DeadError):
            synthetic_repo.commit(synthetic_repo.go_on(life.open(), "main"), step, *numbers(step))
        synthetic_repo.commit(synthetic_repo.go_on(life.open(), "main"), step, *numbers(step))


def commit_without_links(life: Life) -> None:
    """Commit where files can have one name only: then a record may be torn."""
    before = life.refs[MAIN]
    step = before[-1] + 1
    with (
        life.towards(life.with_line(MAIN, [*before, step]), damage=("record-torn",)),
        _refusing("link"),
    ):
        synthetic_repo.commit(synthetic_repo.go_on(life.open(), "main"), step, *numbers(step))


def gc_without_links(life: Life) -> None:
    """Collect where files can have one name only."""
    with life.towards(life.refs), _refusing("link"):
        collect(life.open(), grace=0.0, wait=1.0)


def rename(life: Life) -> None:
    """Give a branch another name: for a moment it has both."""
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
    """End a branch; its commits are garbage then."""
    name = name or pick(life, "heads/side")
    repo = life.open()
    if repo.active_branch() == name:
        repo.set_head("main")
    with life.towards(life.with_line(f"heads/{name}", None)):
        ref_edits.delete_branch(repo, name)


def tag(life: Life) -> None:
    """Name the tip for good."""
    repo = life.open()
    name = f"tag{following(life, 'tags/tag')}"
    tip = repo.tip("main")
    assert tip is not None
    with life.towards(life.with_line(f"tags/{name}", life.refs[MAIN])):
        ref_edits.create_tag(repo, name, tip, reason="tag", force=False)


def untag(life: Life) -> None:
    """End a tag."""
    name = pick(life, "tags/tag")
    with life.towards(life.with_line(f"tags/{name}", None)):
        ref_edits.delete_tag(life.open(), name)


def switch(life: Life) -> None:
    """Choose another active branch, and main again."""
    head = life.path / paths.REPO_FOLDER / paths.HEAD
    for name in (pick(life, "heads/side"), "main"):
        with life.towards(life.refs, promise=lambda: [head]):
            life.open().set_head(name)


def gc(life: Life) -> None:
    """Remove for good what nothing leads to."""
    with life.towards(life.refs):
        collect(life.open(), grace=0.0, wait=1.0)


def take_back(life: Life) -> None:
    """End a branch, collect it with a grace, take it back, and begin the branch again."""
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
    """Forget all but the newest two commits of each line."""
    with life.towards(life.refs):
        forget(life.open(), Keep(last=2), grace=0.0, wait=1.0)


def mend(life: Life) -> None:
    """Repair a repo with damage that loses nothing: of HEAD, of a pack's end, of a record."""
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
    """Copy every frame that is needed into new packs."""
    with life.towards(life.refs), patch.object(repack, "MANY", 1):
        collect(life.open(), grace=0.0, wait=1.0)


def recompress(life: Life) -> None:
    """Write every frame that is needed in another form, whether that pays or not."""
    with life.towards(life.refs), patch.object(repack, "MAX_SHARE", 2.0):
        collect(life.open(), grace=0.0, wait=1.0, recompress=True)


def ledger(life: Life) -> None:
    """Write down what the packs hold."""
    with life.towards(life.refs):
        repo = life.open()
        repo.store.refresh()
        index_compaction.compact(repo.store.catalogue, repo.storage, min_packs=1)


def view(life: Life) -> None:
    """Bring manifest and thin files up to date."""
    with life.towards(life.refs):
        repo = life.open()
        tip = repo.tip("main")
        assert tip is not None
        files = ViewUpdater(repo, "thin")
        files.add(tip)
        files.close()


def rebuild_view(life: Life) -> None:
    """Write the whole view anew."""
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
"""By name; none needs torch."""


def pick(life: Life, start: str) -> str:
    """Return a name that there is; where there is none, make it first."""
    if not any(ref.startswith(start) for ref in life.refs):
        tag(life) if start.startswith("tags/") else fork(life)
    found = sorted(ref for ref in life.refs if ref.startswith(start))
    return life.chance.choice(found).partition("/")[2]


def following(life: Life, start: str) -> int:
    """Return a number that no ref has whose name starts so."""
    taken = [ref.removeprefix(start) for ref in life.refs if ref.startswith(start)]
    return max((int(each) for each in taken if each.isdigit()), default=0) + 1


class _DeadError(BaseException):
    """Stands for SIGKILL of another process: nothing catches it."""


def _dying(operation: str, path: str) -> AbstractContextManager[None]:
    """Let a process die before such a call."""
    return _meeting(operation, path, _DeadError())


def _refusing(operation: str) -> AbstractContextManager[None]:
    """Let the place refuse such calls."""
    return _meeting(operation, "", OSError(errno.EPERM, os.strerror(errno.EPERM)))


@contextmanager
def _meeting(operation: str, path: str, error: BaseException) -> Iterator[None]:
    """Answer such calls so; whoever watches the others goes on watching."""
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
