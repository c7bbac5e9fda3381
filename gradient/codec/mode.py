"""How hard the codec tries."""

from __future__ import annotations

from enum import Enum


class Mode(Enum):
    """The compression setting of a repo or a commit; every mode is lossless."""

    OFF = "off"
    """Chunks are stored as they are; equal chunks are still stored once."""
    AUTO = "auto"
    """What a short probe of each chunk finds worth its time."""
    AGGRESSIVE = "aggressive"
    """Every candidate is encoded, the smallest one kept."""
