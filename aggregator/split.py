"""Splits a body into events, each still the bytes that it came as.

An array is split by msgspec where that can be done in little memory, and else by its brackets
alone, so that whatever is wrong inside one event leaves the others whole.
"""

import re
from collections.abc import Iterator

import msgspec

from aggregator import strict_json
from aggregator.errors import TooLarge, Unparsable

_BLANK = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_BRACKETS = 2_000_000  # a second or two of work, in a thread
_COMMAS_PER_EVENT = 50  # more of them on average, and msgspec might find millions of elements
_COMMA = ord(",")
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_LINE = re.compile(rb"[^\n]+")

_array = msgspec.json.Decoder(list[msgspec.Raw])


def trimmed(body: bytes) -> bytes:
    """The body without what may stand around JSON."""
    return body.removeprefix(_BYTE_ORDER_MARK).strip(_BLANK)


def lines(body: bytes, most: int) -> list[bytes]:
    """The lines that are not blank. Raises TooLarge if there are more than `most`."""
    found: list[bytes] = []
    for line in _LINE.finditer(body.removeprefix(_BYTE_ORDER_MARK)):
        if raw := line.group().strip(_BLANK):
            _check_room(found, most)
            found.append(raw)
    return found


def elements(array: bytes, most: int) -> list[bytes]:
    """The elements of an array. Raises TooLarge, or Unparsable where they cannot be told apart."""
    if array.count(b",") < most * _COMMAS_PER_EVENT:
        try:
            found = [bytes(element) for element in _array.decode(array)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            _check_room(found[:-1], most)
            return found
    return _by_brackets(array, most)


def _by_brackets(array: bytes, most: int) -> list[bytes]:
    found: list[bytes] = []
    start = 1
    for end in _boundaries(array):
        _check_room(found, most)
        found.append(array[start:end].strip(_BLANK))
        start = end + 1
    if start != len(array):
        raise Unparsable("The body is not JSON: it goes on after the end of its array.")
    return [] if found == [b""] else found


def _boundaries(array: bytes) -> Iterator[int]:
    """Where the array's own commas stand, and its last bracket."""
    place, depth = 1, 1
    for _ in range(_MOST_BRACKETS):
        mark = (strict_json.MARK if depth == 1 else strict_json.BRACKET).match(array, place)
        if mark is None:
            raise Unparsable("The body is not JSON: its array, or a string in it, never ends.")
        place = mark.end()
        depth += _DEEPER.get(array[place - 1], 0)
        if depth == 0 or (depth == 1 and array[place - 1] == _COMMA):
            yield place - 1
        if depth == 0:
            return
    raise TooLarge(f"The array has more than {_MOST_BRACKETS:,} brackets to look through.")


def _check_room(found: list[bytes], most: int) -> None:
    if len(found) >= most:
        raise TooLarge(f"The request has more than the {most:,} events that max_events allows.")
