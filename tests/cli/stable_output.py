"""The output of commands, with names in place of ids that differ from run to run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.cli.command import call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def printed(history: PlainRepo, *arguments: str) -> str:
    """Return a command's output, with commit ids as ``<revision>`` and other ids as ``<id>``."""
    text = call(*arguments).stdout
    for oid in history.repo.store.commits():
        revision = history.repo.read_commit(oid).revision
        text = text.replace(str(oid), f"<{revision}>").replace(oid.short, f"<{revision}>")
    return re.sub(r"\b[0-9a-f]{10}(?:[0-9a-f]{54})?\b", "<id>", text)


def fields(function: object, name: str) -> str:
    """Return the documentation of a ``--json`` field."""
    documented: dict[str, str] = getattr(function, "__gradient_json_fields__")  # noqa: B009
    return documented[name]
