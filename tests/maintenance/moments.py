"""How tests of collections get in between, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gradient.repo.repository import Repository
from gradient.store.ref_record import RefRecord

DAY = 86400.0


@contextmanager
def hooked(repo: Repository, action: Callable[[], object]) -> Iterator[None]:
    """Do something between a commit's last look at its packs and the move of its ref."""
    append = repo.refs.append

    def late(*arguments: Any, **options: Any) -> RefRecord:
        action()
        return append(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repo.refs, "append", late)
        yield
