"""Times: ISO 8601 with an offset outside, microseconds since 1970 (UTC) inside."""

import re
import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# What datetime.fromisoformat takes goes further: any character between date and time, say.
_SHAPE = re.compile(r"[0-9]{4}[0-9W-]*[Tt ][0-9:.,]+(?:[Zz]|[+-][0-9:]+)")


def now() -> int:
    """The time of this machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


def parse(text: str) -> int:
    """Microseconds since 1970. Raises ValueError unless it is ISO 8601 with an offset.

    Digits beyond microseconds are cut off.
    """
    if not _SHAPE.fullmatch(text):
        raise ValueError("not an ISO 8601 date and time with an offset, as 2026-01-31T12:00:00Z")
    moment = datetime.fromisoformat(text)
    return (moment - _EPOCH) // _MICROSECOND


def show(microseconds: int) -> str:
    """The time as RFC 3339 writes it, in UTC."""
    return (_EPOCH + microseconds * _MICROSECOND).isoformat().replace("+00:00", "Z")


def moment(text: str) -> int | None:
    """As `parse`, and None where the text is no timestamp."""
    try:
        return parse(text)
    except ValueError:
        return None
