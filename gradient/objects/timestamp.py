"""Times as text: UTC, ``YYYY-MM-DDTHH:MM:SS.ffffff``, without a zone.

Everything on disk uses this form. It sorts as text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%f"


def now() -> str:
    """Return the current time."""
    return encode(datetime.now(UTC))


def encode(moment: datetime) -> str:
    """Return a time as text; one without a zone is taken as UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime(_FORMAT)


def from_seconds(seconds: float) -> str:
    """Return the text for a number of seconds since 1970."""
    return encode(datetime.fromtimestamp(seconds, UTC))


def to_seconds(text: str) -> float:
    """Return the seconds since 1970; raises ValueError for text in another form."""
    return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC).timestamp()
