"""Which engine a model is attached to: one per model and process."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

from gradient.engine.position import Position


class Closable(Protocol):
    """What is known here of an engine."""

    def close(self) -> None:
        """Let go of the model."""


_attached: weakref.WeakKeyDictionary[Any, tuple[weakref.ref[Closable], Position]] = (
    weakref.WeakKeyDictionary()
)
# Where an engine stands outlives the engine: a script may drop it and attach the model again.


def remember(model: object, engine: Closable, standing: Position) -> None:
    """Note that an engine is attached to a model; neither is kept alive by it."""
    _attached[model] = weakref.ref(engine), standing


def forget(model: object) -> None:
    """Note that the model's engine was closed."""
    _attached.pop(model, None)


def detach(model: object) -> Position | None:
    """Close the engine that a model is attached to in this process; says where it stood."""
    reference, standing = _attached.get(model, (None, None))
    if standing is None or standing.pid != os.getpid():
        return None
    engine = None if reference is None else reference()
    try:
        if engine is not None:
            engine.close()
        elif standing.behind is not None:
            standing.behind.flush()
            standing.behind.tell(standing)
    except BaseException:
        if reference is not None:  # attaching once more goes on from here
            _attached[model] = reference, standing
        raise
    _attached.pop(model, None)
    return standing
