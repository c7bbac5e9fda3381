"""The training loop's iterators: steps, epochs, and loaders that resume in mid-epoch.

An epoch is over when one of its loaders has been read to the end and none is being read. A commit
before that moment resumes inside the epoch; a commit after it resumes with the next one. Without
loaders, a commit counts as made at the end of its epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gradient.engine.commit.committer import Committer
from gradient.engine.resume import Resumer
from gradient.engine.session import Session
from gradient.state.loader import ResumableLoader, loader_name

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


class Loop:
    """The iterators of one training loop: steps, epochs and loaders."""

    def __init__(self, session: Session, committer: Committer, resumer: Resumer) -> None:
        self._session = session
        self._committer = committer
        self._resumer = resumer
        self._loaders: list[ResumableLoader] = []
        self._epochs: Epochs | None = None

    def start(self) -> None:
        """Restore a resumed run's generators once more, because the loop starts now."""
        self._session.check_usable()
        self._session.rng_rewind.begin()

    def steps(self, stop: int) -> Iterator[int]:
        """Yield the remaining steps up to `stop` inclusive; follow a rollback, resume or fork."""
        session, committer = self._session, self._committer
        session.check_usable()
        restored, step = session.position.restored, session.position.step
        session.rng_rewind.begin()
        while step < stop:
            step += 1
            yield step
            committer.warn_if_never_called(step)
            if session.position.restored is not restored:
                restored, step = session.position.restored, session.position.step
                session.rng_rewind.begin()
            if not session.closed:
                committer.end_step(step)

    def loader(self, dataloader: DataLoader[Any]) -> ResumableLoader:
        """Wrap a DataLoader and register its position as a state."""
        self._session.check_usable()
        loader = ResumableLoader(dataloader)
        loader.protect_workers(self._session.preemption.handled)
        number = len(self._loaders)
        self._loaders.append(loader)
        self._resumer.register_state(loader_name(number), loader, required=False)
        return loader

    def epochs(self, start: int, stop: int | None) -> Iterator[int]:
        """Yield the remaining epochs, as `range` would count them."""
        self._session.check_usable()
        first, end = (0, start) if stop is None else (start, stop)
        if self._epochs is None:
            self._epochs = Epochs(self._loaders)
            self._resumer.register_state("epochs", self._epochs, required=False)
        self._session.rng_rewind.before_loop()
        return self._iterate(self._epochs.iterate(first, end))

    def _iterate(self, epochs: Iterator[int]) -> Iterator[int]:
        self._session.rng_rewind.begin()
        yield from epochs

    def handle_preemption(self, signals: tuple[int, ...]) -> None:
        """Install the handlers, and keep loader workers alive when the signal comes."""
        self._session.check_usable()
        preemption = self._session.preemption
        preemption.install(signals)
        for loader in self._loaders:
            loader.protect_workers(preemption.handled)


class Epochs:
    """The registered state behind `GradientEngine.epochs`."""

    def __init__(self, loaders: list[ResumableLoader]) -> None:
        self._loaders = loaders
        self._current: int | None = None
        self._resumed: int | None = None
        self._finished = 0

    def iterate(self, start: int, stop: int) -> Iterator[int]:
        """Yield the remaining epochs, from `start` or from the resumed epoch."""
        first = start if self._resumed is None else max(start, self._resumed)
        self._resumed = None
        for epoch in range(first, stop):
            self._current = epoch
            self._finished = self._count()
            yield epoch
            self._current = epoch + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch to resume with; None before the first one."""
        if self._current is None:
            return {"epoch": self._resumed}
        reading = any(loader.in_epoch for loader in self._loaders)
        over = not self._loaders or (not reading and self._count() > self._finished)
        return {"epoch": self._current + 1 if over else self._current}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the recorded epoch at the next `iterate`."""
        self._resumed = state["epoch"]
        self._current = None

    def _count(self) -> int:
        return sum(loader.finished for loader in self._loaders)
