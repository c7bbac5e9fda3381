"""The seam for every system call: it is announced to an observer, and its error is translated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from gradient.errors import GradientIOError

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Call:
    """One call that is about to be made."""

    operation: str
    """``open`` ``create`` ``read`` ``write`` ``sync`` ``close`` ``rename`` ``link`` ``remove``
    ``make folder`` ``sync folder`` ``list`` ``inspect`` ``measure`` ``lock``."""
    path: str
    """The path it operates on."""
    target: str = ""
    """The second path of ``rename`` and ``link``."""
    data: tuple[memoryview, ...] = ()
    """The bytes that ``write`` is asked to write; valid during the call only."""


Observer = Callable[[Call], "int | None"]

observer: Observer | None = None
"""Called before each call. If it raises an OSError, that is handled as if the system had raised it.
For a ``write`` it may return a number: only that many bytes are written. For tests."""


class Attempt:
    """Announces one call to the observer and turns its OSError into a GradientIOError."""

    __slots__ = ("limit", "operation", "path")

    def __init__(
        self, operation: str, path: str, target: str = "", data: tuple[memoryview, ...] = ()
    ) -> None:
        self.operation = operation
        self.path = path
        self.limit: int | None = None
        """The number of bytes to write; None for all."""
        if observer is not None:
            try:
                self.limit = observer(Call(operation, path, target, data))
            except OSError as error:
                raise GradientIOError(operation, path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, GradientIOError):
            raise GradientIOError(self.operation, self.path, error) from error
