"""``.pt`` files that end with our mark, the comment of the zip archive."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from gradient.errors import MalformedObjectError
from gradient.repo.foreign_files import Mark

if TYPE_CHECKING:
    from typing_extensions import Buffer

_END = b"PK\x05\x06"
_END_BYTES = 22
"""The length of a zip archive's last record without a comment."""


class MarkingSink:
    """Passes an archive on as it is written, and gives its last record the mark as comment."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._held = b""
        self.failure: Exception | None = None
        """The error of the last `write`, which torch replaces by its own."""

    def write(self, data: Buffer) -> int:
        """Write all but the last bytes seen so far, which may be the last record."""
        view = memoryview(data).cast("B")
        try:
            if view.nbytes >= _END_BYTES:
                self._out.write(self._held)
                self._out.write(view[:-_END_BYTES])
                self._held = bytes(view[-_END_BYTES:])
            else:
                joined = self._held + bytes(view)
                self._out.write(joined[:-_END_BYTES])
                self._held = joined[-_END_BYTES:]
        except Exception as error:
            self.failure = error
            raise
        return view.nbytes

    def flush(self) -> None:
        """Do nothing: `finish` writes the end."""

    def finish(self, mark: Mark) -> None:
        """Write the last record with the mark; raises MalformedObjectError if it is none."""
        comment = mark.to_bytes()
        if len(self._held) != _END_BYTES or not self._held.startswith(_END):
            raise MalformedObjectError("torch wrote a file that is no zip archive")
        self._out.write(self._held[:-2] + len(comment).to_bytes(2, "little") + comment)


def save(payload: dict[str, Any], out: IO[bytes], mark: Mark) -> None:
    """Write a payload as `torch.save` does, with the mark at its end."""
    import torch  # lazily: who writes thin files alone does without

    sink = MarkingSink(out)
    try:
        torch.save(payload, sink)  # type: ignore[arg-type]
    except Exception:
        if sink.failure is not None:
            raise sink.failure from None
        raise
    sink.finish(mark)
