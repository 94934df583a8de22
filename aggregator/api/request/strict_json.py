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
from collections.abc import Sequence

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

_HAS_NO_LARGE = re.compile(rb'(?:[^"eE]++|%b|[eE](?![+-]?[0-9]{3}))*+' % STRING, re.DOTALL)
"""All of a JSON value that has no exponent of three digits outside of its strings."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST = 10

_SMALL = 200  # bytes; a smaller value is neither nested too deep nor holds a number too long
# With every digit replaced by 0, the signs and the points removed, and all that may stand before a
# number replaced by a comma, a number beyond a double has _LARGE, an exponent of three digits,
# behind a comma and digits, or _LONG, _SMALL digits in a row.
_ALIKE = bytes.maketrans(b"123456789E:[ \t\r\n", b"000000000e,,,,,,")
_REMOVED = b"+-."
_LARGE = b"e000"
_LONG = b"0" * _SMALL
_FEW = 1_000  # places that look like an exponent


def is_surely_taken(text: bytes, values: Sequence[bytes], quotes: int) -> bool:
    """Whether `text` holds nothing but JSON that is taken; if not, ask `faults` of each event.

    The text is what msgspec has decoded, which has checked the grammar and refuses lone surrogates.
    It is one event or many, and `values` are the members of these that may hold anything. `quotes`
    is how many quotation marks the text has outside of them if no member of an event stands twice.
    """
    joined = b",".join(values)
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
    alike = b"," + joined.translate(_ALIKE, _REMOVED)
    if len(joined) >= len(_LONG) and _LONG in alike:
        return False
    if _LARGE not in alike:
        return True
    # Most often it is in an id or a hash in hexadecimal, behind a letter or a quotation mark.
    *parts, rest = alike.split(_LARGE, _FEW)
    if _LARGE not in rest and all(part.rstrip(b"0")[-1:] != b"," for part in parts):
        return True
    return all(map(_HAS_NO_LARGE.fullmatch, values))


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
        raw.decode()
    except UnicodeDecodeError as error:
        return [Fault("", f"not UTF-8: {error.reason}: {_place(raw, error.start, begin)}")]
    scan = _Scan(raw)
    try:
        scan.run()
    except _TooDeep:
        return [Fault("", f"nested deeper than {MAX_DEPTH} levels")]
    except _NotJson as error:
        return [Fault("", f"not JSON: {error.why}: {_place(raw, error.position, begin)}")]
    return [*map(_twice, scan.doubled), *scan.found][:_MOST]


def is_json(raw: bytes) -> bool:
    """Whether it is one JSON value, by the grammar, and is not nested too deep. Slow.

    What else is not taken of it is left to `faults`.
    """
    try:
        raw.decode()
        _Scan(raw).run()
    except (UnicodeDecodeError, _NotJson, _TooDeep):
        return False
    return True


def _place(raw: bytes, position: int, begin: Place) -> str:
    line, column = begin
    if breaks := raw.count(b"\n", 0, position):
        line, column = line + breaks, -raw.rindex(b"\n", 0, position)
    return f"line {line} column {column + position}"


class _TooDeep(Exception):
    """It is nested deeper than is taken."""


class _NotJson(Exception):
    """The grammar of JSON is broken at a position."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(position, why)
        self.position = position
        self.why = why


_BLANKS = rb"[ \t\r\n]*+"
_PLAIN = rb'[^"\\\x00-\x1f]*+'
_TEXT = rb'"%b(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})%b)*+' % (_PLAIN, _PLAIN)
# A double holds numbers of up to 300 digits without an exponent, whatever they are.
_HELD = rb"-?(?:0|[1-9][0-9]{0,299}+)(?:\.[0-9]{1,300}+)?+(?![0-9.eE])"
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_EMPTY = rb"\{%b\}|\[%b\]" % (_BLANKS, _BLANKS)
# Each of these ends behind the blanks that follow, and behind a comma that stands there. Of the
# groups of a value one matches, which tells what it is.
_VALUE = re.compile(
    rb'%b(?:(%b")|(true|false|null|%b)|(%b)|(NaN|-?Infinity)|(%b)|([\[{]))%b,?+'
    % (_BLANKS, _TEXT, _HELD, _NUMBER, _EMPTY, _BLANKS)
)
_IS_TEXT, _IS_HELD, _IS_NUMBER, _IS_REFUSED, _IS_EMPTY, _ = range(1, 7)
_NAME = re.compile(rb'%b(%b")%b:' % (_BLANKS, _TEXT, _BLANKS))
_CLOSING = re.compile(rb"%b([\]}])%b,?+" % (_BLANKS, _BLANKS))
_TO_TOKEN = re.compile(_BLANKS)
_BEGUN_TEXT = re.compile(_TEXT)
_COMMA, _CURLY = b",{"
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""In every string that holds U+0000 or half of a surrogate pair, and in some others."""


class _Scan:
    """Goes through JSON once, token by token, and keeps nothing of it but the way to where it is.

    To build the values would take up to 60 times the memory of the text.
    """

    def __init__(self, raw: bytes) -> None:
        self.found: list[Fault] = []
        """The first faults that have a place."""
        self.doubled: dict[str, None] = {}
        """The members of the outermost object that stand twice."""
        self._raw = raw
        self._is_suspect = _SUSPECT.search(raw) is not None  # else no string is looked at
        self._path: list[int | bytes] = []
        """Of each array that is open an index, of each object a name as it is spelled."""
        self._names: set[bytes] = set()
        """Those of the outermost object."""

    def run(self) -> None:
        """Go through all of it. Raises _NotJson or _TooDeep."""
        raw, path = self._raw, self._path
        place = 0
        while True:
            if (value := _VALUE.match(raw, place)) is None:
                raise self._broken(place, "a value is expected")
            place = value.end()
            kind = value.lastindex or 0
            if kind >= _IS_EMPTY:
                if len(path) >= MAX_DEPTH:
                    raise _TooDeep
                if kind > _IS_EMPTY:
                    place = self._open(raw[value.start(kind)], place)
                    continue
            elif kind != _IS_HELD and (kind != _IS_TEXT or self._is_suspect):
                self._look_at(kind, value[kind])
            if not path or raw[place - 1] != _COMMA:
                place = self._close(place)
                if not path:
                    return
            last = path[-1]
            if isinstance(last, int):
                path[-1] = last + 1
            else:
                place = self._name(place)

    def _open(self, bracket: int, place: int) -> int:
        """Step into an array or an object that is not empty; returns where its first value is."""
        if self._raw[place - 1] == _COMMA:
            raise _NotJson(place - 1, "a value is expected")
        if bracket != _CURLY:
            self._path.append(0)
            return place
        self._path.append(b"")
        return self._name(place)

    def _close(self, place: int) -> int:
        """Step out of what ends there, up to where a comma says that it goes on, or to the end."""
        raw, path = self._raw, self._path
        while path and raw[place - 1] != _COMMA:
            is_array = isinstance(path[-1], int)
            closing = _CLOSING.match(raw, place)
            if closing is None or (closing[1] == b"]") is not is_array:
                raise self._broken(place, f"a comma or {']' if is_array else '}'} is expected")
            path.pop()
            place = closing.end()
        if not path:
            end = place - 1 if raw[place - 1] == _COMMA else place
            if end < len(raw):
                raise _NotJson(end, "it goes on after its end")
        return place

    def _name(self, place: int) -> int:
        """Step to the value of the next member of the innermost object."""
        if (name := _NAME.match(self._raw, place)) is None:
            raise self._broken(place, "a member is expected: a name in double quotes and a colon")
        spelled = self._path[-1] = name[1]
        if len(self._path) == 1:
            self._note(spelled)
        if self._is_suspect:
            self._look_at_text(self._path[:-1], spelled, "the name of a member")
        return name.end()

    def _note(self, spelled: bytes) -> None:
        """See a member of the outermost object."""
        if b"\\" in spelled:  # into the spelling that has no escapes
            spelled = b'"%b"' % _text(spelled).encode(errors="surrogatepass")
        if spelled in self._names:
            self.doubled[spelled[1:-1].decode(errors="surrogatepass")] = None
        self._names.add(spelled)

    def _look_at(self, kind: int, spelled: bytes) -> None:
        if kind == _IS_TEXT:
            self._look_at_text(self._path, spelled, "the string")
        elif kind == _IS_REFUSED or math.isinf(float(spelled)):
            detail = f"{cut(spelled.decode())} is not a number that every reader can hold"
            self._find(self._path, detail)

    def _look_at_text(self, path: Sequence[int | bytes], spelled: bytes, what: str) -> None:
        if len(self.found) >= _MOST or not _SUSPECT.search(spelled):
            return
        text = _text(spelled)
        if "\0" in text:
            self._find(path, f"{what} holds U+0000, which databases cannot store")
        if lone := _LONE_SURROGATE.search(text):
            half = f"\\u{ord(lone.group()):04x}"
            self._find(path, f"{what} holds {half}, half of a surrogate pair")

    def _find(self, path: Sequence[int | bytes], detail: str) -> None:
        if len(self.found) >= _MOST:
            return
        steps = (step if isinstance(step, int) else _text(step) for step in path)
        self.found.append(Fault(json_pointer.to(*steps), detail))

    def _broken(self, place: int, why: str) -> _NotJson:
        """The error of text that has no such token there."""
        blanks = _TO_TOKEN.match(self._raw, place)
        assert blanks
        text = _BEGUN_TEXT.match(self._raw, blanks.end())
        if text is None or self._raw[text.end() : text.end() + 1] == b'"':
            return _NotJson(blanks.end(), why)
        if text.end() == len(self._raw):
            return _NotJson(blanks.end(), "a string never ends")
        return _NotJson(text.end(), "a string may not hold this")


def _text(spelled: bytes) -> str:
    """The text of a string that keeps the grammar."""
    return str(json.loads(spelled)) if b"\\" in spelled else spelled[1:-1].decode()


def _twice(name: str) -> Fault:
    if place := json_pointer.to(name):
        return Fault(place, "stands twice")
    return Fault("", "an object in which a name stands twice that is too long to be shown")
