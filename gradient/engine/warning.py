"""Warnings that point at the script, not at the library."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Warn, pointing at the line of the script that called in."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("gradient."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
