"""When the generators go back to where the commit left them.

At resume, and again where the training loop starts: code between the two (a model summary, a look
at a first batch) may draw numbers, and must not shift the resumed run. The loop starts at
`start()`, at the first step of `steps()`, or at the last read of `current_step` before the first
optimizer step or commit; after that nothing puts them back any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradient.state import rng


class Generators:
    """Remembers the generators' state of a resume until the training loop runs."""

    def __init__(self, optimizer: object) -> None:
        self._pending: Any = None
        self._unhook: list[Callable[[], None]] = []
        self.watch(optimizer)

    def watch(self, optimizer: object) -> None:
        """Take the first step of this optimizer, too, for the beginning of the loop."""
        # Before the step, whose closure may read `current_step` between two evaluations.
        hook = getattr(optimizer, "register_step_pre_hook", None)
        if hook is not None:
            self._unhook.append(hook(lambda *_: self.release()).remove)

    def hold(self, state: Any) -> None:
        """Note the state that a resume has just restored."""
        self._pending = state

    def replay(self) -> None:
        """Restore the noted state again, if the loop has not begun."""
        if self._pending is not None:
            rng.restore(self._pending)

    def release(self) -> None:
        """Forget the noted state: the loop runs."""
        self._pending = None

    def close(self) -> None:
        """Take the hooks off the optimizers."""
        self.release()
        for unhook in self._unhook:
            unhook()
        self._unhook.clear()
