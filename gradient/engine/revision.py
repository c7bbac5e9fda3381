"""What `commit` and `fork` return: the revision as text that knows its commit."""

from __future__ import annotations

from typing import Self


class Revision(str):
    """A revision such as ``"main@100"``, with the commit it names.

    A str in every respect: it can be printed, stored and given to `resume`.
    """

    __slots__ = ("branch", "id", "path", "step", "type")

    id: str
    """The commit's id: 64 hex digits; empty on a rank that does not commit."""
    step: int
    """The step it was committed at."""
    branch: str
    """The branch it was committed on."""
    path: str | None
    """Its view file (``ckpt_*.pt``), where there is one."""
    type: str
    """``"anchor"`` or ``"delta"``."""

    def __new__(
        cls,
        branch: str,
        step: int,
        *,
        id: str = "",
        type: str = "anchor",
        path: str | None = None,
    ) -> Self:
        """Spell the revision of a commit; without an id, of one that another rank makes."""
        self = super().__new__(cls, f"{branch}@{step}")
        self.branch, self.step, self.id, self.type, self.path = branch, step, id, type, path
        return self
