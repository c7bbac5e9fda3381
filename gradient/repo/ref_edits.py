"""Edits of refs by a person: making, renaming, deleting and resetting branches and tags.

No commit is lost. IMPORTANT: the old tip gets its new name *before* the branch moves or is deleted,
so that a kill in between leaves two names for a commit, never none.
"""

from __future__ import annotations

from gradient.errors import BranchExistsError, ConflictError, UnknownRevisionError
from gradient.objects.oid import Oid
from gradient.repo import branch_names, failed_commits
from gradient.repo.reachability import relying
from gradient.repo.repository import Repository
from gradient.store.ref_record import RefRecord, Space


def create_branch(repo: Repository, name: str, commit: Oid, *, reason: str = "branch") -> RefRecord:
    """Make a branch at a commit; raises BranchExistsError, InvalidNameError."""
    existing = repo.branches()
    if name in existing:
        raise BranchExistsError(name)
    branch_names.check_branch_name(name, existing)
    with relying(repo, name, commit) as last:
        return repo.refs.append(name, commit, after=None, reason=reason, last=last)


def rename_branch(repo: Repository, old: str, new: str) -> None:
    """Rename a branch and update HEAD.

    Raises UnknownRevisionError, BranchExistsError, InvalidNameError.
    """
    record = _existing(repo, old, "heads")
    existing = repo.branches()
    if new in existing:
        raise BranchExistsError(new)
    branch_names.check_branch_name(new, existing)
    assert record.commit is not None
    with relying(repo, new, record.commit) as last:
        why = f"renamed from {old}"
        repo.refs.append(new, record.commit, after=None, reason=why, last=last)
    if repo.active_branch() == old:
        repo.set_head(new)
    repo.refs.delete(old, after=record, reason=f"renamed to {new}")
    failed_commits.clear(repo.path, old)


def delete_branch(repo: Repository, name: str) -> Oid:
    """Delete a branch; return its former tip, which its log still names.

    Raises ConflictError for the active branch, UnknownRevisionError if it does not exist.
    """
    record = _existing(repo, name, "heads")
    if repo.active_branch() == name:
        raise ConflictError(
            f"{name!r} is the active branch; choose another one first: gradient switch BRANCH"
        )
    repo.refs.delete(name, after=record, reason="deleted")
    failed_commits.clear(repo.path, name)
    assert record.commit is not None
    return record.commit


def create_tag(repo: Repository, name: str, commit: Oid, *, reason: str, force: bool) -> None:
    """Tag a commit; with `force`, an existing tag moves, else this raises ConflictError."""
    existing = repo.refs.tips("tags")
    branch_names.check_branch_name(name, existing)
    before = existing.get(name)
    if before is not None and not force:
        raise ConflictError(
            f"tag {name!r} exists; to move it: gradient tag --force {name} REV, to delete it: "
            f"gradient tag -d {name}"
        )
    with relying(repo, name, commit, space="tags") as last:
        repo.refs.append(name, commit, after=before, reason=reason, space="tags", last=last)


def delete_tag(repo: Repository, name: str) -> Oid:
    """Delete a tag; return its commit. Raises UnknownRevisionError if it does not exist."""
    record = _existing(repo, name, "tags")
    repo.refs.delete(name, after=record, reason="deleted", space="tags")
    assert record.commit is not None
    return record.commit


def reset_branch(repo: Repository, branch: str, commit: Oid, *, reason: str) -> str | None:
    """Move a branch to another commit; return the new name of its old tip.

    Returns None if the old tip needs no name, because it is in the history of the new one. Raises
    RefConflictError if another writer moved the branch first.
    """
    record = _existing(repo, branch, "heads")
    tip = repo.tip(branch)
    if record.commit == commit:
        return None
    # The commit must be known to exist before the tip is set aside.
    with relying(repo, branch, commit) as last:
        aside = None
        # A damaged tip is skipped, so it counts as left behind: it keeps a name then.
        history = repo.walk_links(commit, on_damage="skip")
        if tip is not None and all(oid != tip for oid, _ in history):
            aside = _set_aside(repo, branch, tip)
        repo.refs.append(branch, commit, after=record, reason=reason, last=last)
    return aside


def _set_aside(repo: Repository, branch: str, tip: Oid) -> str:
    existing = repo.refs.tips()
    named = [
        name for name in branch_names.lines_beside(branch, existing) if existing[name].commit == tip
    ]
    if named:
        return named[0]
    for name in branch_names.set_aside(branch):
        if name not in existing and branch_names.is_branch_name(name, existing):
            with relying(repo, name, tip) as last:
                repo.refs.append(name, tip, after=None, reason="set aside: reset", last=last)
            return name
    raise AssertionError  # pragma: no cover - the names never end


def _existing(repo: Repository, name: str, space: Space) -> RefRecord:
    record = repo.refs.read(name, space) if branch_names.is_branch_name(name) else None
    if record is None:
        what = "branch" if space == "heads" else "tag"
        existing = repo.refs.names(space)[:5]
        raise UnknownRevisionError(name, f"there is no {what} {name!r}", existing)
    return record
