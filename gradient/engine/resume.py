"""The path of `resume`, `fork` and `rollback`: from a revision to live objects.

A resume opens the branch to continue, resolves the revision, restores the live objects
(`restore.py`) and moves the position there. A fork does the same on a new branch, with options
applied in between (`fork.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradient.engine import ranks, registered_state
from gradient.engine.commit.commit_future import CommitResult
from gradient.engine.commit.commit_handle import Revision, settled
from gradient.engine.commit.pending_commit import acknowledge
from gradient.engine.fork import fork_run, restart_optimizer
from gradient.engine.fork_options import ForkOptions
from gradient.engine.position import Position
from gradient.engine.restore import Restored, restore_run
from gradient.engine.session import Session
from gradient.engine.shutdown import crash_hint
from gradient.engine.warning import warn
from gradient.errors import ConfigError, InvalidNameError
from gradient.repo import last_run
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.damage import naming_commits
from gradient.state.live_objects import check_name


class Resumer:
    """Moves one run to a commit."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begin(self, previous: Position | None) -> None:
        """Start an attached run: resume or fork as requested, else continue where it was.

        `previous` is the position of an engine that was attached to the same model before.
        """
        session = self._session
        request, writer = session.request, session.position.branch_writer
        launch = request.launch_env
        launch.consume()
        begun = None
        if launch.id is not None:
            begun = last_run.branch_moved_by(session.repo, request.reason)
        if begun is not None:
            # An earlier process of this launch has committed already: a restart continues there.
            session.position.branch_writer = BranchWriter.open(session.repo, begun)
            self.resume_latest()
        elif launch.fork is not None and request.resume is not None:
            with naming_commits(session.repo):
                self._fork(request.resume, self._create_branch(writer.branch), launch.fork)
        elif request.resume == "auto":
            self.resume_latest(missing_ok=True)
        elif request.resume is not None:
            self.resume(request.resume, reset_optimizer=launch.reset_optimizer)
        elif previous is not None and previous.continues_on(writer):
            session.position = previous
            previous.background = session.background
        elif writer.seen is not None:
            warn(
                f"branch {writer.branch!r} has history, and this run starts from scratch: its "
                f"first commit sets the old tip aside. To continue the branch, attach with "
                f'resume="auto" (or run: gradient resume latest -- …). To keep both, name another '
                f"branch: GradientConfig(branch=…) or GRADIENT_BRANCH"
            )

    def resume(
        self,
        ref: str,
        *,
        strict: bool = True,
        components: Sequence[str] | None = None,
        reset_optimizer: bool = False,
    ) -> int:
        """Restore a commit and continue from it; returns its step."""
        self._session.drain()
        ref = settled(ref)
        with naming_commits(self._session.repo):
            return self._resume(
                ref, strict=strict, components=components, reset_optimizer=reset_optimizer
            )

    def resume_latest(self, *, missing_ok: bool = False) -> int:
        """Restore the tip of the active branch; with `missing_ok`, return 0 if there is none."""
        session = self._session
        session.drain()
        if missing_ok and session.repo.tip(session.position.branch) is None:
            return 0
        return self.resume("latest")

    def fork(self, from_ref: str, new_branch: str, options: ForkOptions) -> Revision:
        """Restore a commit, apply the options and record the result on a new branch."""
        self._session.drain()
        with naming_commits(self._session.repo):
            return self._fork(settled(from_ref), self._create_branch(new_branch), options)

    def rollback(self, options: ForkOptions) -> Revision:
        """Restore the newest finite commit of the branch, and record it as the new tip."""
        session = self._session
        session.drain()
        branch = session.position.branch
        with naming_commits(session.repo):
            writer = BranchWriter.open(session.repo, branch)
            revision = self._fork(f"{branch}@last-finite", writer, options)
        if options.reset_rng_seed is None and options.scale_lr is None:
            warn(
                f"rolled back to {revision} with nothing changed: the run will diverge as before; "
                f"pass scale_lr or reset_rng_seed"
            )
        return revision

    def register_state(
        self,
        name: str,
        getter: Callable[[], Any] | Any,
        setter: Callable[[Any], Any] | None = None,
        *,
        required: bool = True,
        pickle: bool = False,
    ) -> None:
        """Add a state to every commit, and restore it now if the run was resumed."""
        session = self._session
        session.drain()
        check_name(name)
        if name in session.objects.registered:
            raise InvalidNameError(name, "a state is registered under it already")
        entry = registered_state.registered(getter, setter, required=required, pickle=pickle)
        position = session.position
        if position.restored is not None and name not in position.claimed:
            with naming_commits(session.repo):
                position.restored.claim(session.repo, name, entry)
        position.claimed.add(name)
        session.objects.registered[name] = entry
        session.rng_rewind.watch(getter)

    def _resume(
        self,
        ref: str,
        *,
        strict: bool,
        components: Sequence[str] | None,
        reset_optimizer: bool,
    ) -> int:
        if reset_optimizer and components is not None:
            raise ConfigError("reset_optimizer: a warm start by components leaves it out instead")
        session, position = self._session, self._session.position
        named = session.repo.resolve(ref, branch=position.branch)
        writer = self._open_branch(named.branch)
        # Opening the branch reads its tip. Resolving again now ensures that the restored commit is
        # at least as new as that tip; otherwise a commit made in between would be displaced.
        found = session.repo.resolve(ref, branch=position.branch)
        restored = restore_run(
            session.repo,
            session.objects,
            found.oid,
            strict=strict,
            components=components,
            without={"optimizer"} if reset_optimizer else set(),
            then=self._restart_optimizer if reset_optimizer else None,
        )
        if components is not None:
            position.origin = restored.origin | {"components": list(components)}
            return restored.commit.step
        writer.position = found.oid
        self._move_to(writer, restored)
        return position.step

    def _restart_optimizer(self, restored: Restored) -> None:
        restart_optimizer(self._session.repo, self._session.objects, restored)

    def _fork(self, from_ref: str, writer: BranchWriter, options: ForkOptions) -> Revision:
        session, position = self._session, self._session.position
        source = session.repo.resolve(from_ref, branch=position.branch).oid
        writer.moved_to(source)
        forked = fork_run(session, writer, source, options)
        self._move_to(writer, forked.restored)
        result = CommitResult(writer.branch)
        warnings: tuple[str, ...] = ()
        if forked.published is not None:
            result = acknowledge(session.view, session.maintenance, forked.published, None)
            warnings = forked.published.warnings
        position.last = Revision(result.branch, position.step, of=result)
        for text in warnings:
            warn(text)
        return position.last

    def _move_to(self, writer: BranchWriter, restored: Restored) -> None:
        session = self._session
        session.position.moved(writer, restored, claimed=session.objects.registered)
        crash_hint.remember(writer)
        session.rng_rewind.hold(restored.generators)
        if restored.generators is not None:
            ranks.warn_of_shared_generators()
        if session.background is not None:
            session.background.snapshots.restored_to(restored.commit.tree)

    def _open_branch(self, branch: str | None) -> BranchWriter:
        """Open the branch that a resume continues; None: the revision was a tag or an id."""
        session = self._session
        if branch is None or session.request.launch_env.branch is not None:
            branch = session.position.branch
        return BranchWriter.open(session.repo, branch)

    def _create_branch(self, branch: str) -> BranchWriter:
        # Only the first rank creates the branch; it may exist before the others check.
        repo = self._session.repo
        return BranchWriter.create(repo, branch) if ranks.commits() else BranchWriter(repo, branch)
