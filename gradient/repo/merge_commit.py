"""A commit with several parents: whose line it continues, and what it says about itself."""

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
    """Return the line that a merge goes to: a new branch, or one whose newest commit is the first.

    Without `branch`, the one that the first was named by. Raises BranchExistsError, ConflictError,
    ConfigError, InvalidNameError.
    """
    wanted = branch or first.branch
    if wanted is None:
        raise ConfigError(
            f"{first.oid.short} was named without a branch; name the one to merge on: -b BRANCH"
        )
    line = BranchWriter.open(repo, wanted)
    tip = repo.tip(wanted)  # after that: a commit that is made in between was not seen
    if tip is None:
        return BranchWriter.create(repo, wanted).moved_to(first.oid)
    if tip == first.oid:
        return line.moved_to(first.oid)
    if branch is not None:
        raise BranchExistsError(branch)
    raise ConflictError(
        f"{first.commit.revision} is not the newest commit of {wanted!r}, so a merge cannot "
        f"continue that branch; name a new one: -b BRANCH"
    )


def merge_commit(
    repo: Repository,
    line: BranchWriter,
    sources: Sequence[Resolved],
    write_tree: Callable[[Transaction], Oid],
    *,
    how: dict[str, Json],
    message: str,
) -> Published:
    """Commit the tree that a function writes, with all sources as parents, durably.

    `how` says by which rule; it is recorded. Raises what the function and `Line.publish` raise.
    """
    first = sources[0].commit
    others = [source.oid for source in sources[1:]]
    builder = CommitBuilder(step=first.step, message=message)

    def build(branch: str, parent: Oid | None) -> Oid:
        # Without bases: what the merge takes over from its first parent must not lean on an anchor
        # that the new commit does not name.
        with repo.store.begin(mode=Mode.AUTO, plain=True) as transaction:
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
    return line.publish(first.step, build, reason=reason, others=others)
