"""The engine that each model is attached to: one per model and process."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

from gradient.engine.position import Position


class Closable(Protocol):
    """An attached session."""

    def close(self) -> None:
        """Detach from the model."""


_attached: weakref.WeakKeyDictionary[Any, tuple[weakref.ref[Closable], Position]] = (
    weakref.WeakKeyDictionary()
)
# The position outlives the session: a script may drop its engine and attach the model again.


def remember(model: object, session: Closable, position: Position) -> None:
    """Register the session of a model; this keeps neither of them alive."""
    _attached[model] = weakref.ref(session), position


def forget(model: object) -> None:
    """Unregister a model whose session was closed."""
    _attached.pop(model, None)


def detach(model: object) -> Position | None:
    """Close the session that a model is attached to in this process; returns its position."""
    reference, position = _attached.get(model, (None, None))
    if position is None or position.pid != os.getpid():
        return None
    session = None if reference is None else reference()
    try:
        if session is not None:
            session.close()
        elif position.background is not None:
            position.background.flush()
            position.background.report(position)
    except BaseException:
        if reference is not None:  # a later attach continues from here
            _attached[model] = reference, position
        raise
    _attached.pop(model, None)
    return position
