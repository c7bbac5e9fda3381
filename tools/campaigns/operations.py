"""Everything that changes a repo, one row each: what every campaign here goes through.

A row is a function of a `Life`; it says what it is about to do, and does it as the commands do. To
add an operation is to add a row.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias
from unittest.mock import patch

from gradient.maintenance.collection import collect, undo
from gradient.objects.commit import Commit
from gradient.objects.oid import Kind, Oid
from gradient.repo import moving
from gradient.repo.branching import fork_commit
from gradient.repo.lines import Line
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.store import bookkeeping, repack
from gradient.view.create import init_repo
from gradient.view.files import ViewFiles
from gradient.view.rebuild import rebuild
from tools.campaigns import repos
from tools.campaigns.lives import Life, Refs

Operation: TypeAlias = Callable[[Life], None]

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
    chunks = [Oid.of(Kind.BLOB, repos.content(number)) for number in numbers(step)]
    return Oid.of(Kind.TREE, repos.tree_of(chunks)[-1])


def is_right(_: Repository, __: Oid, commit: Commit) -> bool:
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
    with life.towards(life.refs):
        workspace = life.path.parent / "other"
        init_workspace(workspace)
        init_repo(workspace / "run", "run", None, workspace)
        repo = Repository.open(workspace / "run", workers=1)
        steps = repos.read_everything(workspace / "run").get("main", [])
        repos.commit(repos.go_on(repo, "main"), len(steps), *numbers(len(steps)))


def commit(life: Life) -> None:
    """Go on on main; every third commit as differences from others."""
    before = life.refs.get(MAIN, [])
    step = before[-1] + 1 if before else 1
    with life.towards(life.with_line(MAIN, [*before, step])):
        line = repos.go_on(life.open(), "main")
        repos.commit(line, step, *numbers(step), lean=step % 3 == 0)


def commits(life: Life) -> None:
    """Commit twice by the same writer."""
    line = repos.go_on(life.open(), "main")
    for _ in range(2):
        before = life.refs[MAIN]
        step = before[-1] + 1
        with life.towards(life.with_line(MAIN, [*before, step])):
            repos.commit(line, step, *numbers(step))


def rewind(life: Life) -> None:
    """Go back on main and commit from there: the old tip is set aside."""
    before = life.refs[MAIN]
    line = Line.open(life.open(), "main")
    oids = [oid for oid, _ in line.repo.line("main")]
    named = [ref for ref, steps in life.refs.items() if ref.startswith(_OLD) and steps == before]
    kept = life.with_line((*named, f"{_OLD}{following(life, _OLD)}")[0], before)
    step = before[-1] + 1
    with life.towards(kept, {**kept, MAIN: [*before[:-1], step]}):
        repos.commit(line.moved_to((*oids, None)[1]), step, *numbers(step))


def fork(life: Life) -> None:
    """Begin a branch with a commit of its own."""
    repo = life.open()
    number = following(life, "heads/side")
    steps = life.refs[MAIN]
    source = repo.resolve(f"main@{life.chance.choice(steps)}")
    at = steps[: steps.index(source.commit.step) + 1]
    with life.towards(life.with_line(f"heads/side{number}", [*at, at[-1]])):
        fork_commit(repo, source, f"side{number}")


def branch(life: Life) -> None:
    """Name the tip once more."""
    repo = life.open()
    name = f"side{following(life, 'heads/side')}"
    tip = repo.tip("main")
    assert tip is not None
    with life.towards(life.with_line(f"heads/{name}", life.refs[MAIN])):
        moving.create_branch(repo, name, tip)


def rename(life: Life) -> None:
    """Give a branch another name: for a moment it has both."""
    old = pick(life, "heads/side")
    name = f"side{following(life, 'heads/side')}"
    both = life.with_line(f"heads/{name}", life.refs[f"heads/{old}"])
    with life.towards(both, {ref: line for ref, line in both.items() if ref != f"heads/{old}"}):
        moving.rename_branch(life.open(), old, name)


def delete(life: Life) -> None:
    """End a branch; its commits are garbage then."""
    name = pick(life, "heads/side")
    repo = life.open()
    if repo.active_branch() == name:
        repo.set_head("main")
    with life.towards(life.with_line(f"heads/{name}", None)):
        moving.delete_branch(repo, name)


def tag(life: Life) -> None:
    """Name the tip for good."""
    repo = life.open()
    name = f"tag{following(life, 'tags/tag')}"
    tip = repo.tip("main")
    assert tip is not None
    with life.towards(life.with_line(f"tags/{name}", life.refs[MAIN])):
        moving.create_tag(repo, name, tip, reason="tag", force=False)


def untag(life: Life) -> None:
    """End a tag."""
    name = pick(life, "tags/tag")
    with life.towards(life.with_line(f"tags/{name}", None)):
        moving.delete_tag(life.open(), name)


def switch(life: Life) -> None:
    """Choose another active branch, and main again."""
    name = pick(life, "heads/side")
    with life.towards(life.refs):
        life.open().set_head(name)
        life.open().set_head("main")


def gc(life: Life) -> None:
    """Remove for good what nothing leads to."""
    with life.towards(life.refs):
        collect(life.open(), grace=0.0, wait=1.0)


def trash(life: Life) -> None:
    """Collect with a grace, and take it back."""
    with life.towards(life.refs):
        collect(life.open(), grace=3600.0, wait=1.0)
        undo(life.open())


def merge_packs(life: Life) -> None:
    """Copy every frame that is needed into new packs."""
    with life.towards(life.refs), patch.object(repack, "MANY", 1):
        collect(life.open(), grace=0.0, wait=1.0)


def recompress(life: Life) -> None:
    """Write every frame that is needed in another form, whether that pays or not."""
    with life.towards(life.refs), patch.object(repack, "PAYS", 2.0):
        collect(life.open(), grace=0.0, wait=1.0, recompress=True)


def ledger(life: Life) -> None:
    """Write down what the packs hold."""
    with life.towards(life.refs):
        repo = life.open()
        repo.store.refresh()
        bookkeeping.tidy(repo.store.catalogue, repo.storage, least=1)


def view(life: Life) -> None:
    """Bring manifest and thin files up to date."""
    with life.towards(life.refs):
        repo = life.open()
        tip = repo.tip("main")
        assert tip is not None
        files = ViewFiles(repo, "thin")
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
    "rename a branch": rename,
    "delete a branch": delete,
    "tag": tag,
    "delete a tag": untag,
    "switch": switch,
    "gc": gc,
    "gc, and undo it": trash,
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
