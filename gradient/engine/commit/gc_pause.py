"""A pause of Python's cyclic garbage collector during a commit.

A commit creates some thousands of small objects, none of them in a cycle, and drops them when it
is done. The collector would count them and traverse every object of the process: a tenth of a
second or more once torch is loaded, in about every fifth commit.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the collector during the block, unless it is disabled already."""
    if not gc.isenabled():
        yield
        return
    try:  # entered before the collector is off, because a Ctrl-C may come right after that
        gc.disable()
        yield
    finally:
        gc.enable()
