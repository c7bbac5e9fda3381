"""Python's collector of reference cycles, kept out of a commit.

A commit makes some thousands of small objects, none of them in a cycle, and drops them when it is
done. The collector would count them, and look at every object of the process for it: a tenth of a
second and more where torch is loaded, as often as each fifth commit.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the collector rest meanwhile, unless it is off anyway."""
    if not gc.isenabled():
        yield
        return
    try:  # before it is off: a Ctrl-C may come right after that
        gc.disable()
        yield
    finally:
        gc.enable()
