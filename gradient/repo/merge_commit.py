"""Merge commits: the branch that they continue, and the facts that they record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradient.codec.mode import Mode
from gradient.errors import BranchExistsError, ConfigError, ConflictError
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.branch_writer import BranchWriter, Published
from gradient.repo.commit_builder import CommitBuilder
from gradient.repo.repository import Repository
from gradient.repo.revisions import Resolved
from gradient.store.transaction import Transaction


def line_for(repo: Repository, first: Resolved, branch: str | None) -> BranchWriter:
    """Return a writer to the branch of a merge: a new one, or one with `first` as its tip.

    Without `branch`, the branch by which `first` was named is used. Raises BranchExistsError,
    ConflictError, ConfigError, InvalidNameError.
    """
    name = branch or first.branch
    if name is None:
        raise ConfigError(
            f"{first.oid.short} was named without a branch; name the one to merge on: -b BRANCH"
        )
    writer = BranchWriter.open(repo, name)
    tip = repo.tip(name)  # read after `open`: a commit made in between does not count as seen
    if tip is None:
        return BranchWriter.create(repo, name).moved_to(first.oid)
    if tip == first.oid:
        return writer.moved_to(first.oid)
    if branch is not None:
        raise BranchExistsError(branch)
    raise ConflictError(
        f"{first.commit.revision} is not the newest commit of {name!r}, so a merge cannot "
        f"continue that branch; name a new one: -b BRANCH"
    )


def merge_commit(
    repo: Repository,
    writer: BranchWriter,
    sources: Sequence[Resolved],
    write_tree: Callable[[Transaction], Oid],
    *,
    how: dict[str, Json],
    message: str,
) -> Published:
    """Commit the tree that `write_tree` writes, with all sources as parents, durably.

    `how` is the rule of the merge, which the commit records. Raises the errors of `write_tree` and
    `BranchWriter.publish`.
    """
    first = sources[0].commit
    others = [source.oid for source in sources[1:]]
    builder = CommitBuilder(step=first.step, message=message)

    def build(branch: str, parent: Oid | None) -> Oid:
        # Without bases: a chunk shared with the first parent must not depend on an anchor that
        # the new commit does not name.
        with repo.store.begin(mode=Mode.AUTO, whole=True) as transaction:
            tree = write_tree(transaction)
            origin: dict[str, Json] = {
                "from": [str(source.oid) for source in sources],
                "revision": [source.commit.revision for source in sources],
                **how,
            }
            return builder.write(
                transaction,
                branch,
                parent,
                tree,
                others=others,
                hparams=first.hparams,
                fork=transaction.put(Kind.TREE, Tree(origin).to_bytes()),
            )

    reason = message.splitlines()[0]
    return writer.publish(first.step, build, reason=reason, others=others)
