from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gradient.objects import timestamp

TEXT = "2026-02-10T12:34:56.000789"
MOMENT = datetime(2026, 2, 10, 12, 34, 56, 789, tzinfo=UTC)


def test_a_time_survives_the_round_trip() -> None:
    assert timestamp.encode(MOMENT) == TEXT
    assert timestamp.to_seconds(TEXT) == MOMENT.timestamp()
    assert timestamp.from_seconds(MOMENT.timestamp()) == TEXT
    assert timestamp.from_seconds(0) == "1970-01-01T00:00:00.000000"


def test_a_time_of_another_zone_becomes_utc_and_one_without_a_zone_is_utc() -> None:
    assert timestamp.encode(MOMENT.astimezone(timezone(timedelta(hours=5)))) == TEXT
    assert timestamp.encode(MOMENT.replace(tzinfo=None)) == TEXT


def test_now_is_in_the_same_form() -> None:
    before = datetime.now(UTC).timestamp()
    assert before - 1 < timestamp.to_seconds(timestamp.now()) < before + 3600


@pytest.mark.parametrize("text", ["", "today", "2026-02-10", "2026-02-10T12:34:56", TEXT + "Z"])
def test_text_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|unconverted"):
        timestamp.to_seconds(text)
