"""Scratch repos: copies of one commit, for runs that must not change the original repo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePath

from gradient.checkpoint.references import references_in
from gradient.codec.mode import Mode
from gradient.objects.oid import Kind, Oid
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.store.transaction import Transaction


def make_scratch(
    repo: Repository,
    oid: Oid,
    branch: str,
    folder: str,
    *,
    progress: Callable[[int], object] | None = None,
) -> tuple[Repository, Oid]:
    """Make a workspace in an empty folder, with a repo that holds a copy of one commit.

    Returns the repo and the id of the copy. The state has the same ids; the copy has no parents, so
    its own id differs. The branch points to it. `progress` receives numbers of bytes. Raises
    IntegrityError for damage, and ForgottenError.
    """
    repo.check_kept(oid)
    init_workspace(folder)
    path = str(PurePath(folder, PurePath(repo.path).name))
    create_repo(path, workspace_path=folder)
    scratch = Repository.open(path)
    commit = repo.read_commit(oid)
    with scratch.store.begin(mode=Mode.OFF, whole=True) as transaction:
        blobs: dict[Oid, None] = {}
        for root in (commit.tree, commit.environment, commit.hparams):
            if root is not None:
                blobs.update(dict.fromkeys(_copy_trees(repo, transaction, root)))
        transaction.put_chunks(_read(repo, blobs, progress), width=1)
        alone = replace(commit, parents=(), anchor=None, branch=branch, fork=None)
        made = transaction.put(Kind.COMMIT, alone.to_bytes())
        transaction.seal()
    scratch.refs.append(branch, made, after=None, reason=f"copy of {commit.revision}")
    scratch.set_head(branch)
    return scratch, made


def _copy_trees(repo: Repository, transaction: Transaction, root: Oid) -> Iterator[Oid]:
    """Copy the trees and lists below a tree; yield the ids of their blobs."""
    pending = [(Kind.TREE, root)]
    seen: set[Oid] = set()
    while pending:
        kind, oid = pending.pop()
        if kind is Kind.BLOB:
            yield oid
        elif oid not in seen:
            seen.add(oid)
            raw = repo.store.read(oid, kind)
            transaction.put(kind, raw)
            pending.extend(references_in(kind, raw))


def _read(
    repo: Repository, blobs: Iterable[Oid], progress: Callable[[int], object] | None
) -> Iterator[bytes]:
    for oid in blobs:
        raw = repo.store.read(oid, Kind.BLOB)
        if progress is not None:
            progress(len(raw))
        yield raw
