"""The table of operations that change a repo, which all campaigns use.

An operation is a function of a `Client`. It logs its possible outcomes and then works as the
command does. A new operation needs only a new row.
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

from gradient.maintenance.fsck.repair import repair
from gradient.maintenance.garbage_collection import collect, undo
from gradient.maintenance.retention.forget import forget
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo import paths, ref_edits
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.fork import fork_commit
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage import fs
from gradient.store import index_compaction, repack
from gradient.view.init_repo import init_repo
from gradient.view.rebuild import rebuild
from gradient.view.updates import ViewUpdater, follow_refs
from tools.campaigns import synthetic_repo
from tools.campaigns.oracle import Client, Refs

Operation: TypeAlias = Callable[[Client], None]

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
    """Make a repo with a short history and some garbage; return its path and its refs.

    Only the dates in its config vary.
    """
    init_workspace(folder)
    path = folder / "run"
    create_repo(path, "run", None, folder)
    client = Client(path, {}, lambda _: None, "world")
    for act in (commit, commit, fork, commit, tag, delete, commit):
        act(client)
    client.open().set_head("main")
    return path, client.refs


def begin(client: Client) -> None:
    """Create another repo with a workspace of its own, and commit to it."""
    workspace = client.path.parent / "other"
    inside = workspace / "run" / paths.REPO_FOLDER
    config = Path(paths.workspace_config(str(workspace)))
    with client.attempt(client.refs, promise=lambda: [config]):
        init_workspace(workspace)
    folders = [inside / name for name in (paths.CONFIG, *paths.FOLDERS)]
    with client.attempt(client.refs, promise=lambda: folders):
        init_repo(workspace / "run", "run", None, workspace)
    with client.attempt(client.refs, promise=lambda: [*inside.glob("[or]*/[ph]*/**/*")]):
        repo = Repository.open(workspace / "run", workers=1)
        steps = synthetic_repo.read_everything(workspace / "run").get("main", [])
        synthetic_repo.commit(synthetic_repo.go_on(repo, "main"), len(steps), *numbers(len(steps)))


def commit(client: Client) -> None:
    """Commit to main; every third commit is stored as deltas."""
    before = client.refs.get(MAIN, [])
    step = before[-1] + 1 if before else 1
    with client.attempt(client.with_line(MAIN, [*before, step])):
        line = synthetic_repo.go_on(client.open(), "main")
        synthetic_repo.commit(line, step, *numbers(step), lean=step % 3 == 0)


def commits(client: Client) -> None:
    """Make two commits with the same writer."""
    line = synthetic_repo.go_on(client.open(), "main")
    for _ in range(2):
        before = client.refs[MAIN]
        step = before[-1] + 1
        with client.attempt(client.with_line(MAIN, [*before, step])):
            synthetic_repo.commit(line, step, *numbers(step))


def rewind(client: Client) -> None:
    """Rewind main and commit there; the old tip is set aside."""
    before = client.refs[MAIN]
    line = BranchWriter.open(client.open(), "main")
    oids = [oid for oid, _ in line.repo.line("main")]
    named = [ref for ref, steps in client.refs.items() if ref.startswith(_OLD) and steps == before]
    kept = client.with_line((*named, f"{_OLD}{following(client, _OLD)}")[0], before)
    step = before[-1] + 1
    with client.attempt(kept, {**kept, MAIN: [*before[:-1], step]}):
        synthetic_repo.commit(line.moved_to((*oids, None)[1]), step, *numbers(step))


def fork(client: Client) -> None:
    """Fork a branch with a commit of its own."""
    repo = client.open()
    number = following(client, "heads/side")
    steps = client.refs[MAIN]
    whole = [commit.step for oid, commit in repo.line("main") if oid not in repo.dropped()]
    source = repo.resolve(f"main@{client.chance.choice(whole)}")
    at = steps[: steps.index(source.commit.step) + 1]
    with client.attempt(client.with_line(f"heads/side{number}", [*at, at[-1]])):
        fork_commit(repo, source, f"side{number}")


def branch(client: Client, name: str = "") -> None:
    """Tag the tip."""
    repo = client.open()
    name = name or f"side{following(client, 'heads/side')}"
    tip = repo.tip("main")
    assert tip is not None
    with client.attempt(client.with_line(f"heads/{name}", client.refs[MAIN])):
        ref_edits.create_branch(repo, name, tip)


def branch_with_another(client: Client) -> None:
    """Tag the tip after a process died before it synced the folder of the branch."""
    name = f"shared{following(client, 'heads/shared')}"
    fs.make_folders(str(client.path / paths.REPO_FOLDER / "refs/heads" / name))
    branch(client, name)


def commit_with_another(client: Client) -> None:
    """Commit chunks of a process that died before it synced the name of its pack."""
    before = client.refs[MAIN]
    step = before[-1] + 1
    with client.attempt(client.with_line(MAIN, [*before, step])):
        with _dying("sync folder", "objects/pack"), suppress(_DeadError):
            synthetic_repo.commit(synthetic_repo.go_on(client.open(), "main"), step, *numbers(step))
        synthetic_repo.commit(synthetic_repo.go_on(client.open(), "main"), step, *numbers(step))


def commit_without_links(client: Client) -> None:
    """Commit on a file system without hard links, on which a record may be torn."""
    before = client.refs[MAIN]
    step = before[-1] + 1
    with (
        client.attempt(client.with_line(MAIN, [*before, step]), damage=("record-torn",)),
        _refusing("link"),
    ):
        synthetic_repo.commit(synthetic_repo.go_on(client.open(), "main"), step, *numbers(step))


def gc_without_links(client: Client) -> None:
    """Collect on a file system without hard links."""
    with client.attempt(client.refs), _refusing("link"):
        collect(client.open(), grace=0.0, wait=1.0)


def rename(client: Client) -> None:
    """Rename a branch; for a moment it has both names."""
    old = pick(client, "heads/side")
    tip = client.open().tip(old)
    assert tip is not None
    with client.attempt(client.refs):
        ViewUpdater(client.open(), "thin").add(tip)
    name = f"side{following(client, 'heads/side')}"
    both = client.with_line(f"heads/{name}", client.refs[f"heads/{old}"])
    with client.attempt(both, {ref: line for ref, line in both.items() if ref != f"heads/{old}"}):
        ref_edits.rename_branch(client.open(), old, name)
        follow_refs(client.open())


def delete(client: Client, name: str = "") -> None:
    """Delete a branch; its commits become garbage."""
    name = name or pick(client, "heads/side")
    repo = client.open()
    if repo.active_branch() == name:
        repo.set_head("main")
    with client.attempt(client.with_line(f"heads/{name}", None)):
        ref_edits.delete_branch(repo, name)


def tag(client: Client) -> None:
    """Tag the tip permanently."""
    repo = client.open()
    name = f"tag{following(client, 'tags/tag')}"
    tip = repo.tip("main")
    assert tip is not None
    with client.attempt(client.with_line(f"tags/{name}", client.refs[MAIN])):
        ref_edits.create_tag(repo, name, tip, reason="tag", force=False)


def untag(client: Client) -> None:
    """Delete a tag."""
    name = pick(client, "tags/tag")
    with client.attempt(client.with_line(f"tags/{name}", None)):
        ref_edits.delete_tag(client.open(), name)


def switch(client: Client) -> None:
    """Switch to another active branch and back to main."""
    head = client.path / paths.REPO_FOLDER / paths.HEAD
    for name in (pick(client, "heads/side"), "main"):
        with client.attempt(client.refs, promise=lambda: [head]):
            client.open().set_head(name)


def gc(client: Client) -> None:
    """Remove unreachable objects without a grace period."""
    with client.attempt(client.refs):
        collect(client.open(), grace=0.0, wait=1.0)


def take_back(client: Client) -> None:
    """Delete a branch, collect with a grace period, restore the branch, and commit to it."""
    name = pick(client, "heads/side")
    line = client.refs[f"heads/{name}"]
    oid = client.open().tip(name)
    assert oid is not None
    delete(client, name)
    with client.attempt(client.with_line(f"heads/{name}", line)):
        collect(client.open(), grace=3600.0, wait=1.0, clock=lambda: time.time() + 7200.0)
        undo(client.open())
        ref_edits.create_branch(client.open(), name, oid)


def let_go(client: Client) -> None:
    """Forget all but the newest two commits of each branch."""
    with client.attempt(client.refs):
        forget(client.open(), Keep(last=2), grace=0.0, wait=1.0)


def mend(client: Client) -> None:
    """Repair damage that loses nothing: in HEAD, at the end of a pack, in a record."""
    inside = client.path / paths.REPO_FOLDER
    pack = max(inside.glob("objects/pack/*"))
    record = max(inside.glob("refs/heads/main/*"))
    damage = {
        pack: pack.read_bytes() + b"x",
        record.with_name(f"{int(record.name) + 1:016d}"): b"{",
        inside / paths.HEAD: b"..\n",
    }
    classes = (*_WITHOUT_A_PACK, "head-malformed", "record-torn")
    kept = inside / "lost+found"
    with client.attempt(client.refs, damage=classes, promise=lambda: kept.rglob("*")):
        for path, content in damage.items():
            client.spoil(path, content)
        _repair(client)


def mend_config(client: Client) -> None:
    """Repair a repo whose config was damaged."""
    config = client.path / paths.REPO_FOLDER / paths.CONFIG
    classes = ("config-malformed", "config-missing")
    with client.attempt(client.refs, damage=classes, promise=lambda: [config]):
        client.spoil(config, b"{")
        _repair(client)


def _repair(client: Client) -> None:
    if not repair(str(client.path), workers=1).after.is_sound:
        repair(str(client.path), workers=1)  # it reported the rest, and nothing is lost


def merge_packs(client: Client) -> None:
    """Copy every needed frame to new packs."""
    with client.attempt(client.refs), patch.object(repack, "MANY", 1):
        collect(client.open(), grace=0.0, wait=1.0)


def recompress(client: Client) -> None:
    """Encode every needed frame in another form, whether it saves space or not."""
    with client.attempt(client.refs), patch.object(repack, "MAX_SHARE", 2.0):
        collect(client.open(), grace=0.0, wait=1.0, recompress=True)


def ledger(client: Client) -> None:
    """Write the multi-pack index."""
    with client.attempt(client.refs):
        repo = client.open()
        repo.store.refresh()
        index_compaction.compact(repo.store.catalogue, repo.storage, min_packs=1)


def view(client: Client) -> None:
    """Update the manifest and the thin files."""
    with client.attempt(client.refs):
        repo = client.open()
        tip = repo.tip("main")
        assert tip is not None
        files = ViewUpdater(repo, "thin")
        files.add(tip)
        files.close()


def rebuild_view(client: Client) -> None:
    """Rebuild the view."""
    with client.attempt(client.refs):
        for path in client.path.glob("ckpt_*.pt"):
            path.unlink()
        rebuild(client.open(), mode="thin")


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
    "delete a branch": lambda client: delete(client),
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


def pick(client: Client, start: str) -> str:
    """Return an existing name, after creating one if there is none."""
    if not any(ref.startswith(start) for ref in client.refs):
        tag(client) if start.startswith("tags/") else fork(client)
    found = sorted(ref for ref in client.refs if ref.startswith(start))
    return client.chance.choice(found).partition("/")[2]


def following(client: Client, start: str) -> int:
    """Return a number that no ref with this prefix uses."""
    taken = [ref.removeprefix(start) for ref in client.refs if ref.startswith(start)]
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
