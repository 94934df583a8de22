"""Reads many plain events at once, where a look at all of them together shows nothing amiss.

Whatever is in doubt is left to `plain_event`, which looks at each event by itself. What is taken
here is taken there too, and read as the same.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec

from aggregator.api.request import strict_json
from aggregator.api.request.plain_event import QUOTES, Members

Read: TypeAlias = list[tuple[Members, bytes]]
"""The members of each event, and its payload."""

_OPENING = ord("{")
_SHORTEST = b'[{"topic":"'
_SMALL = 200  # bytes; a smaller payload is neither nested too deep nor holds a number too long
# Where every digit is 0 and signs are left out, this is in every other number beyond a double.
_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_SIGNS = b"+-"
_LARGE = b"0e000"
_LONG = b"0" * _SMALL

_array = msgspec.json.Decoder(list[Members])
_line = msgspec.json.Decoder(Members)
_object = msgspec.json.Decoder(dict[str, Any])
_write = msgspec.json.Encoder().encode


def of_array(array: bytes) -> Read:
    """The events of an array; none where they are to be looked at one by one."""
    try:
        return _checked(_array.decode(array), array)
    except strict_json.UNREADABLE:
        return []


def of_lines(lines: Sequence[bytes]) -> Read:
    """The same for events that are told apart already."""
    try:
        return _checked([_line.decode(line) for line in lines], b"[%b]" % b",".join(lines))
    except strict_json.UNREADABLE:
        return []


def _checked(events: list[Members], text: bytes) -> Read:
    """The events of an array, unless msgspec may have let something through that is not taken."""
    payloads = [bytes(event.payload) for event in events]
    joined = b"".join(payloads)
    large = [payload for payload in payloads if len(payload) >= _SMALL]
    is_plain = (
        {payload[0] for payload in payloads} == {_OPENING}
        and (_is_as_written(events, text) or _has_few_quotes(text, joined, len(events)))
        and b"\\u0000" not in text
        and (text.isascii() or bool(text.decode()))
        and not any(map(_is_too_deep, large))
        and _are_numbers_held(payloads, joined)
    )
    return list(zip(events, payloads, strict=True)) if is_plain else []


def _is_as_written(events: list[Members], text: bytes) -> bool:
    """Whether msgspec would write it so: it writes no name twice."""
    return text.startswith(_SHORTEST) and _write(events) == text


def _has_few_quotes(text: bytes, payloads: bytes, events: int) -> bool:
    """Whether there is no room for a name that stands twice."""
    return text.count(b'"') == payloads.count(b'"') + QUOTES * events


def _is_too_deep(payload: bytes) -> bool:
    return strict_json.is_too_deep(b"{" + payload)  # inside of its event


def _are_numbers_held(payloads: Sequence[bytes], joined: bytes) -> bool:
    """Whether a double holds every number. Raises where msgspec finds one that none does."""
    alike = joined.translate(_ALIKE, _SIGNS)
    if _LARGE in alike:  # most often a hash in hexadecimal
        for payload in payloads:
            _object.decode(payload)
    return _LONG not in alike
