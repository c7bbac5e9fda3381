"""Forks made without a run: a new branch whose first commit has the state of an existing one."""

from __future__ import annotations

from gradient.codec.mode import Mode
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.branch_writer import BranchWriter, Published
from gradient.repo.commit_builder import CommitBuilder
from gradient.repo.repository import Repository
from gradient.repo.revisions import Resolved


def fork_commit(repo: Repository, source: Resolved, branch: str, *, message: str = "") -> Published:
    """Start `branch` with a commit of the source's whole state, durably.

    Only the commit itself is written. Raises BranchExistsError, InvalidNameError, ForgottenError.
    """
    repo.check_kept(source.oid)
    step = source.commit.step
    builder = CommitBuilder(step=step, message=message, finite=source.commit.finite)

    def build(name: str, parent: Oid | None) -> Oid:
        origin = Tree({"from": str(source.oid), "revision": source.commit.revision})
        with repo.store.begin(mode=Mode.OFF) as transaction:
            return builder.write(
                transaction,
                name,
                parent,
                source.commit.tree,
                anchor=source.commit.anchor,
                hparams=source.commit.hparams,
                fork=transaction.put(Kind.TREE, origin.to_bytes()),
            )

    writer = BranchWriter.create(repo, branch).moved_to(source.oid)
    reason = f"fork of {source.commit.revision}"
    # The new commit shares the whole tree, which must exist until a ref points to the commit.
    return writer.publish(step, build, reason=reason, others=[source.oid])
