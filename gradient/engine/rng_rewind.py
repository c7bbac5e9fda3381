"""The moments at which a resumed run's generators are restored.

They are restored at resume, and again when the training loop starts. Code between the two (a model
summary, a first batch for inspection) may draw numbers and must not shift the resumed run. The
loop starts where the script says so (`start()`, the first step of `steps()`, the first epoch of
`epochs()`). Otherwise it starts at the last read of `current_step` before the first gradient,
optimizer step or commit. Later reads restore nothing, because the loop has drawn numbers by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradient.state import rng


class RngRewind:
    """Keeps the generators' state of a resume until the training loop runs."""

    def __init__(self, optimizer: object) -> None:
        self._pending: Any = None
        self._begun = False
        self._had_no_gradients = True
        self._optimizers = {id(optimizer): optimizer}
        self._hook_removers: list[Callable[[], None]] = []
        self.watch(optimizer)

    def watch(self, optimizer: object) -> None:
        """Let the first step of this optimizer, too, mark the start of the loop."""
        # A pre-hook, because the step's closure may read `current_step` between two evaluations.
        hook = getattr(optimizer, "register_step_pre_hook", None)
        if hook is not None:
            self._optimizers[id(optimizer)] = optimizer
            self._hook_removers.append(hook(lambda *_: self.release()).remove)

    def hold(self, state: Any) -> None:
        """Keep the state that a resume has just restored."""
        self._pending, self._begun = state, False
        self._had_no_gradients = not self._have_gradients()

    def begin(self) -> None:
        """Restore the state again, because the script says that the loop starts."""
        self._begun = True
        if self._pending is not None:
            rng.restore(self._pending)

    def before_loop(self) -> None:
        """Restore the state again at a read of `current_step`, unless the loop has started."""
        if self._pending is None or self._begun:
            return
        if self._had_no_gradients and self._have_gradients():  # inside a step
            self.release()
        else:
            rng.restore(self._pending)

    def release(self) -> None:
        """Drop the state, because the loop runs."""
        self._pending = None

    def close(self) -> None:
        """Remove the hooks from the optimizers."""
        self.release()
        for remove in self._hook_removers:
            remove()
        self._hook_removers.clear()

    def _have_gradients(self) -> bool:
        return any(
            parameter.grad is not None and _is_nonzero(parameter.grad)
            for optimizer in self._optimizers.values()
            for group in getattr(optimizer, "param_groups", ())
            for parameter in group["params"]
        )


def _is_nonzero(gradient: torch.Tensor) -> bool:
    return gradient.layout is not torch.strided or bool(gradient.any())
