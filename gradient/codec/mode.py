"""The compression modes."""

from __future__ import annotations

from enum import Enum


class Mode(Enum):
    """The compression setting of a repo or a commit. Every mode is lossless."""

    OFF = "off"
    """Store chunks uncompressed. Equal chunks are still stored once."""
    AUTO = "auto"
    """Choose the coding of each chunk from a small sample."""
    AGGRESSIVE = "aggressive"
    """Encode every candidate and keep the smallest."""
