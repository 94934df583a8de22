"""Which JSON is taken: what every reader can read back, and what keeps its value on the way.

The grammar of RFC 8259 allows text that breaks readers. Refused beyond it: lone surrogates and
U+0000 (no string elsewhere can hold them), numbers beyond a double (RFC 7493, 2.2: they become
infinite), nesting deeper than MAX_DEPTH, and a member of the event itself that stands twice. Digits
are not limited otherwise: an integer of 30 is kept.

The rules are applied twice. `is_surely_taken` is quick, looks at one event or many together, and
may be in doubt about JSON that is fine. `faults` is slow, looks at one event, and decides.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import msgspec

from aggregator.core import json_pointer
from aggregator.core.quoting import cut
from aggregator.outcome import Fault

Place = tuple[int, int]
"""The line and the column, in bytes, where something begins; both from 1."""
FIRST: Place = (1, 1)

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises where it declines."""

MAX_DEPTH = 100
"""Levels of arrays and objects in one event, itself included."""

# Possessive, so that the matcher never goes back, whatever it is given.
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
"""The pattern of a string."""
BRACKET = re.compile(rb'(?:[^"\[\]{}]++|%b)*+[\[\]{}]' % STRING, re.DOTALL)
"""All up to and with the next bracket that stands in no string; no match where none follows."""
MARK = re.compile(rb'(?:[^"\[\]{},]++|%b)*+[\[\]{},]' % STRING, re.DOTALL)
"""The same, up to a bracket or a comma."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST = 10

_SMALL = 200  # bytes; a smaller value is neither nested too deep nor holds a number too long
# With every digit replaced by 0 and the signs removed, a number beyond a double contains _LARGE, an
# exponent of three digits, or _LONG, _SMALL digits in a row.
_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_SIGNS = b"+-"
_LARGE = b"0e000"
_LONG = b"0" * _SMALL


def is_surely_taken(text: bytes, values: Sequence[bytes], quotes: int) -> bool:
    """Whether `text` holds nothing but JSON that is taken; if not, ask `faults` of each event.

    The text is what msgspec has decoded, which has checked the grammar and refuses lone surrogates.
    It is one event or many, and `values` are the members of these that may hold anything. `quotes`
    is how many quotation marks the text has outside of them if no member of an event stands twice.
    """
    joined = b"".join(values)
    large = [value for value in values if len(value) >= _SMALL]
    return (
        text.count(b'"') == joined.count(b'"') + quotes  # one that stands twice has more
        and (b"\\" not in text or b"\\u0000" not in text)
        and (text.isascii() or _is_utf8(text))
        and not any(map(_is_too_deep_inside, large))
        and _are_numbers_held(values, joined)
    )


def _is_too_deep_inside(value: bytes) -> bool:
    return is_too_deep(b"{" + value)  # as a member of its event


def _is_utf8(text: bytes) -> bool:
    """Whether the text is UTF-8: msgspec does not check the strings that it skips."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _are_numbers_held(values: Sequence[bytes], joined: bytes) -> bool:
    """Whether a double holds every number."""
    alike = joined.translate(_ALIKE, _SIGNS)
    if len(joined) >= len(_LONG) and _LONG in alike:
        return False
    if _LARGE in alike:  # most often a hash in hexadecimal
        try:
            for value in values:
                msgspec.json.decode(value)  # refuses a number with an exponent too large
        except UNREADABLE:
            return False
    return True


def is_too_deep(raw: bytes) -> bool:
    """Whether brackets are nested deeper than is taken."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    depth = place = 0
    # Match, not search: from a quote that never closes a search would begin again at each place.
    while part := BRACKET.match(raw, place):
        place = part.end()
        depth += 1 if raw[place - 1] in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def faults(raw: bytes, begin: Place = FIRST) -> list[Fault]:
    """What in `raw` is not taken, the first few of it; empty if nothing. Slow.

    `begin` is its own place in the body, for places to be those of the body.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return [Fault("", f"not UTF-8: {error.reason}: {_after(raw[: error.start], begin)}")]
    if is_too_deep(raw):
        return [Fault("", f"nested deeper than {MAX_DEPTH} levels")]
    try:
        value = json.loads(
            text,
            parse_constant=_Refused,
            parse_float=_number,
            parse_int=_number,
            object_pairs_hook=_Members,
        )
    except json.JSONDecodeError as error:
        before = text[: error.pos].encode()
        return [Fault("", f"not JSON: {error.msg}: {_after(before, begin)}")]
    doubled = value.doubled if isinstance(value, _Members) else []
    found = chain(map(_twice, doubled), _walk((), value))
    return list(islice(found, _MOST))


def _after(before: bytes, begin: Place) -> str:
    line, column = begin
    breaks = before.count(b"\n")
    if breaks:
        line, column, before = line + breaks, 1, before.rpartition(b"\n")[2]
    return f"line {line} column {column + len(before)}"


class _Members(dict[str, object]):
    """The members of an object, and the names that stand in it more than once."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.doubled: list[str] = []
        if len(self) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            self.doubled = [name for name, count in counts.items() if count > 1]


class _Refused(str):
    """The spelling of a value that is not taken."""

    __slots__ = ()


def _number(spelling: str) -> object:
    return _Refused(spelling) if math.isinf(float(spelling)) else 0


def _twice(name: str) -> Fault:
    if place := json_pointer.to(name):
        return Fault(place, "stands twice")
    return Fault("", "an object in which a name stands twice that is too long to be shown")


def _walk(path: tuple[object, ...], value: object) -> Iterator[Fault]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _of_text(path, name, "the name of a member")
            yield from _walk((*path, name), member)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from _walk((*path, index), element)
    elif isinstance(value, _Refused):
        detail = f"{cut(value)} is not a number that every reader can hold"
        yield Fault(json_pointer.to(*path), detail)
    elif isinstance(value, str):
        yield from _of_text(path, value, "the string")


def _of_text(path: tuple[object, ...], text: str, what: str) -> Iterator[Fault]:
    if "\0" in text:
        yield Fault(json_pointer.to(*path), f"{what} holds U+0000, which databases cannot store")
    if lone := _LONE_SURROGATE.search(text):
        half = f"\\u{ord(lone.group()):04x}"
        yield Fault(json_pointer.to(*path), f"{what} holds {half}, half of a surrogate pair")
