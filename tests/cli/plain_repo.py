"""A repo whose commits are written without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gradient.codec.mode import Mode
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository

STATE_BYTES = 3000


@dataclass
class PlainRepo:
    """A workspace in the current folder, with one repo."""

    workspace: Path
    repo: Repository
    environment: dict[str, str] = field(default_factory=dict)

    def commit(
        self,
        branch: str,
        step: int,
        *,
        message: str = "",
        source: Oid | None = None,
        delta: bool = False,
        command: str | None = None,
        minute: int = 0,
        finite: bool | None = None,
    ) -> Oid:
        """Commit a state of one blob, on the branch or, with `source`, on a new branch at it."""
        repo = self.repo
        writer = BranchWriter.create(repo, branch) if source else BranchWriter.open(repo, branch)
        writer.moved_to(source or repo.tip(branch))

        def build(name: str, parent: Oid | None) -> Oid:
            with repo.store.begin(mode=Mode.OFF) as transaction:
                (chunk,) = transaction.put_chunks([bytes([step % 251]) * STATE_BYTES], width=1)
                tensor = {"dtype": "uint8", "shape": [STATE_BYTES], "nbytes": STATE_BYTES}
                model = Tree({"w": {"tensor": {**tensor, "chunks": [str(chunk)]}}})
                root = Tree({"model": {"tree": str(transaction.put(Kind.TREE, model.to_bytes()))}})
                environment = None
                if command is not None:
                    record = Tree({"command": command, "cwd": str(Path.cwd())})
                    environment = transaction.put(Kind.TREE, record.to_bytes())
                commit = CommitRecord(
                    tree=transaction.put(Kind.TREE, root.to_bytes()),
                    parents=() if parent is None else (parent,),
                    anchor=parent if delta else None,
                    step=step,
                    branch=name,
                    time=f"2026-02-10T12:{minute:02d}:56.000000",
                    message=message,
                    metrics={"loss": step / 8},
                    environment=environment,
                    finite=finite,
                )
                oid = transaction.put(Kind.COMMIT, commit.to_bytes())
                transaction.seal()
            return oid

        return writer.publish(step, build).commit

    def reopen(self) -> Repository:
        """Open the repo again, as another process would."""
        return Repository.open(self.repo.path, workers=1)
