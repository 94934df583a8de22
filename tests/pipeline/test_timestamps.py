"""Which times are taken, and that each is taken for what it says."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from aggregator.core import timestamp

NOON = 1_769_860_800_000_000


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31 12:00:00Z", NOON),
        ("2026-01-31T12:00Z", NOON),
        ("2026-01-31T12Z", NOON),
        ("20260131T120000Z", NOON),
        ("2026-W05-6T12:00:00Z", NOON),
        ("2026-01-31T13:00:00+01:00", NOON),
        ("2026-01-31T06:30:00-0530", NOON),
        ("2026-01-31T12:00:00.000001Z", NOON + 1),
        ("2026-01-31T12:00:00.5Z", NOON + 500_000),
        ("2026-01-31T12:00:00.0250Z", NOON + 25_000),
        ("2026-01-31T12:00:00.1234567Z", NOON + 123_456),
        ("2026-01-31T12:00:00.25z", NOON + 250_000),
        ("2026-01-31T12:00:00,5Z", NOON + 500_000),
        ("2026-01-31T12:00:00." + "123456789" * 3 + "Z", NOON + 123_456),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000_000),
    ],
)
def test_time_is_taken_for_what_it_says(text: str, microseconds: int) -> None:
    assert timestamp.parse(text) == microseconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "1769860800"),
        *("2026-01-31T12.5Z", "2026-01-31T12:00.5Z", "2026-01-31T12:00:00.Z"),
        *("2026-13-01T00:00:00Z", "2026-01-32T00:00:00Z", "2026-01-31T12:00:60Z"),
        *("2026-01-31T12:00:00.\u0665Z", "2026-01-31T12:00:00.+5Z", "2026-01-31T12:00.5:00Z"),
        *("2026-01-31T12:00:00.5", "2026-01-31T12:00:60.5Z", "2026-01-31T12:00:00Z.5Z"),
        *("2026-01-31T24:00:00.5Z", "2026-01-31T12:00:00.5+", "2026-01-31T12:00:00.5+Z"),
        *("2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00Z\n", "2026-01-31_12:00:00Z"),
    ],
)
def test_time_that_says_nothing_clear_is_refused_in_our_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not an ISO 8601 date and time with an offset, such as"):
        timestamp.parse(text)


def test_time_is_shown_as_python_shows_it() -> None:
    random = Random(17)
    seconds = [0, -1, NOON // 1_000_000, *(random.randrange(-(10**9), 10**10) for _ in range(500))]
    for second in seconds:
        for fraction in (0, 1, 250_000, 999_999, random.randrange(1_000_000)):
            known = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(0, second, fraction)
            shown = timestamp.rfc_3339(1_000_000 * second + fraction)
            assert shown == known.isoformat().replace("+00:00", "Z")
            assert timestamp.parse(shown) == 1_000_000 * second + fraction
