"""What a command prints, with the ids that differ from run to run given names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.cli.command import call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def printed(history: PlainRepo, *arguments: str) -> str:
    """Return what a command prints, commits' ids as ``<revision>``, other ids as ``<id>``."""
    text = call(*arguments).stdout
    for oid in history.repo.store.commits():
        revision = history.repo.read_commit(oid).revision
        text = text.replace(str(oid), f"<{revision}>").replace(oid.short, f"<{revision}>")
    return re.sub(r"\b[0-9a-f]{10}(?:[0-9a-f]{54})?\b", "<id>", text)


def fields(function: object, name: str) -> str:
    """Return what the documentation of ``--json`` says of a field."""
    documented: dict[str, str] = getattr(function, "__gradient_json_fields__")  # noqa: B009
    return documented[name]
