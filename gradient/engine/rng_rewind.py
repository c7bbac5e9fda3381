"""When the generators go back to where the commit left them.

At resume, and again where the training loop starts: code between the two (a model summary, a look
at a first batch) may draw numbers, and must not shift the resumed run. The loop starts where the
script says so (`start()`, the first step of `steps()`, the first epoch of `epochs()`), else at the
last read of `current_step` before the first gradient, optimizer step or commit. What is read after
that puts nothing back, for the loop has drawn by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradient.state import rng


class RngRewind:
    """Remembers the generators' state of a resume until the training loop runs."""

    def __init__(self, optimizer: object) -> None:
        self._pending: Any = None
        self._begun = False
        self._bare = True
        self._optimizers = {id(optimizer): optimizer}
        self._unhook: list[Callable[[], None]] = []
        self.watch(optimizer)

    def watch(self, optimizer: object) -> None:
        """Take the first step of this optimizer, too, for the beginning of the loop."""
        # Before the step, whose closure may read `current_step` between two evaluations.
        hook = getattr(optimizer, "register_step_pre_hook", None)
        if hook is not None:
            self._optimizers[id(optimizer)] = optimizer
            self._unhook.append(hook(lambda *_: self.release()).remove)

    def hold(self, state: Any) -> None:
        """Note the state that a resume has just restored."""
        self._pending, self._begun = state, False
        self._bare = not self._have_gradients()

    def begin(self) -> None:
        """Restore the noted state again where the script says that the loop begins."""
        self._begun = True
        if self._pending is not None:
            rng.restore(self._pending)

    def glance(self) -> None:
        """Restore the noted state again for a read of `current_step`, if the loop has not begun."""
        if self._pending is None or self._begun:
            return
        if self._bare and self._have_gradients():  # of a step that is not over
            self.release()
        else:
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

    def _have_gradients(self) -> bool:
        return any(
            parameter.grad is not None and _is_nonzero(parameter.grad)
            for optimizer in self._optimizers.values()
            for group in getattr(optimizer, "param_groups", ())
            for parameter in group["params"]
        )


def _is_nonzero(gradient: torch.Tensor) -> bool:
    return gradient.layout is not torch.strided or bool(gradient.any())
