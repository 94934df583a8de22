"""Times: ISO 8601 with an offset outside, microseconds since 1970 (UTC) inside."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# What datetime.fromisoformat takes goes further: any character between date and time, say, or a
# fraction of an hour, which it takes for one of a second.
_CLOCK = r"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}([.,][0-9]+)?)?)?"
_SHAPE = re.compile(rf"[0-9]{{4}}[0-9W-]*[T ]{_CLOCK}(?:Z|[+-]{_CLOCK})")
# How nearly every publisher spells it: many events come in a second, which is read once.
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}")
_POINT = len("2026-01-31T12:00:00")  # where a fraction's stands
_FRACTIONS = {"Z": 0} | {f".{number:03}Z": 1000 * number for number in range(1000)}
_DIGITS = (0, 100_000, 10_000, 1_000, 100, 10, 1)  # microseconds in the last of so many
_EXPECTED = "not an ISO 8601 date and time with an offset, such as 2026-01-31T12:00:00Z"

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


def now() -> int:
    """The time of this machine's clock, in microseconds since 1970."""
    return time.time_ns() // 1000


def parse(text: str) -> int:
    """As `try_parse`. Raises ValueError unless the text is ISO 8601 with an offset."""
    found = try_parse(text)
    if found is None:
        raise ValueError(_EXPECTED)
    return found


def try_parse(text: str) -> int | None:
    """Microseconds since 1970; None unless the text is ISO 8601 with an offset.

    Digits beyond microseconds are cut off.
    """
    found = _usual(text)
    if found is not None:
        return found
    upper = text.upper()
    return _read(upper) if _SHAPE.fullmatch(upper) else None


def rfc_3339(microseconds: int) -> str:
    """The time as RFC 3339 writes it, in UTC."""
    second, fraction = divmod(microseconds, 1_000_000)
    return f"{_shown(second)}.{fraction:06}Z" if fraction else f"{_shown(second)}Z"


def is_rfc_3339(text: str) -> bool:
    """Whether it is spelled as RFC 3339 asks, which knows fewer spellings than ISO 8601."""
    if _usual(text) is not None:
        return True
    return _RFC_3339.fullmatch(text.upper()) is not None and try_parse(text) is not None


def _usual(text: str) -> int | None:
    """The time in microseconds, if it is spelled as by nearly every publisher; None else."""
    end = text[_POINT:]
    fraction = _FRACTIONS.get(end)
    if fraction is None and end[:1] == "." and end[-1] == "Z" and len(end) <= len(_DIGITS) + 1:
        digits = end[1:-1]
        if digits.isdigit() and digits.isascii():
            fraction = int(digits) * _DIGITS[len(digits)]
    if fraction is not None and (whole := _second(text[:_POINT])) is not None:
        return whole + fraction
    return None


@lru_cache(1024)
def _second(text: str) -> int | None:
    """A second in UTC, without the Z; None if it is none, or spelled otherwise."""
    return _read(text + "Z") if _SECOND.fullmatch(text) else None


@lru_cache(1024)
def _shown(second: int) -> str:
    """A second since 1970 as RFC 3339 writes it, without the Z."""
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat()


def _read(text: str) -> int | None:
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
    except ValueError:  # a month 13, say
        return None
