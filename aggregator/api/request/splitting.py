"""Splits a body into events, each still the bytes that it came as.

An array is split by msgspec where that can be done in little memory, and else by its brackets
alone, so that whatever is wrong inside one event leaves the others whole.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

import msgspec

from aggregator.api.request import strict_json
from aggregator.api.request.strict_json import Place
from aggregator.errors import RequestError, TooLarge, Unparsable

_BLANK = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_BRACKETS = 2_000_000  # a second or two of work, in a thread
_COMMAS_PER_EVENT = 50  # more of them on average, and msgspec might find millions of elements
_COMMA = ord(",")
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

_BLANKS = re.compile(rb"[ \t\r\n]*")
_ARRAY = re.compile(rb"(?:%b)?[ \t\r\n]*+\[" % _BYTE_ORDER_MARK)
_MEMBER = re.compile(rb"[ \t\r\n]*(%b)[ \t\r\n]*:(.*)" % strict_json.STRING, re.DOTALL)
_WINDOW = 1_048_576  # bytes that a pattern sees at once, in which it keeps the event loop waiting
_OUTSIDE = re.compile(rb'(?:[^"\[\]{}]++|%b)*+' % strict_json.STRING, re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_MOST_MEMBERS = 1_000  # of one event
_LOOKED_AT = 1_048_576  # bytes of an event, for its members
_MOST_MARKS = 20_000  # of one event that is looked through for its members; some milliseconds

Piece = tuple[bytes, Place]
"""The text of an event, without blanks around it, and where in the body it begins."""

_array = msgspec.json.Decoder(list[msgspec.Raw])
_name = msgspec.json.Decoder(str)


def trimmed(body: bytes) -> bytes:
    """The body without what may stand around JSON."""
    return body.removeprefix(_BYTE_ORDER_MARK).strip(_BLANK)


def is_array(body: bytes) -> bool:
    """Whether the JSON in a body begins as an array."""
    return _ARRAY.match(body) is not None


def beginning(body: bytes) -> Place:
    """Where the JSON in a body begins."""
    blanks = _BLANKS.match(body.removeprefix(_BYTE_ORDER_MARK))
    assert blanks
    return 1 + blanks[0].count(b"\n"), len(blanks[0]) - blanks[0].rfind(b"\n")


def too_many(most: int) -> TooLarge:
    """The error of a request with more than so many events."""
    return TooLarge(f"The request has more than the {most:,} events that max_events allows.")


class Lines:
    """Splits a body into lines while it arrives, wherever the pieces of it begin and end.

    Of a line of more than `longest` bytes only the beginning is kept, which is still too long.
    """

    def __init__(self, longest: int) -> None:
        self._kept = longest + len(b"\r\n")
        self._head: bytes | None = b""
        self._rest = bytearray()
        self._ended = 0  # lines

    def feed(self, piece: bytes) -> list[Piece]:
        """The lines that end in this piece and are not blank."""
        first, end, others = self._after_mark(piece).partition(b"\n")
        self._keep(first)
        if not end:
            return []
        whole, others_end, rest = others.rpartition(b"\n")
        ended = [bytes(self._rest), *(whole.split(b"\n") if others_end else ())]
        found = [
            (line, (number, 1))
            for number, text in enumerate(ended, self._ended + 1)
            if text and (line := self._line(text))
        ]
        self._ended += len(ended)
        self._rest.clear()
        self._keep(rest)
        return found

    def finish(self) -> list[Piece]:
        """The last line, if no line break ended it."""
        return self.feed(b"\n")

    def _after_mark(self, piece: bytes) -> bytes:
        """The piece, without the byte order mark that a body may begin with."""
        if self._head is None:
            return piece
        self._head += piece
        if self._head != _BYTE_ORDER_MARK and _BYTE_ORDER_MARK.startswith(self._head):
            return b""
        piece, self._head = self._head.removeprefix(_BYTE_ORDER_MARK), None
        return piece

    def _keep(self, part: bytes) -> None:
        """Hold what a line begins with; one byte more than is kept shows that it is too long."""
        if not self._rest:
            part = part.lstrip(_BLANK)
        self._rest += part[: self._kept + 1 - len(self._rest)]

    def _line(self, line: bytes) -> bytes:
        if len(line) <= self._kept:
            return line.strip(_BLANK)
        line = line.lstrip(_BLANK)
        return line[: self._kept] if len(line) > self._kept else line.rstrip(_BLANK)


def members(text: bytes) -> Sequence[tuple[str, bytes]]:
    """The first members of an object, by name, as far as it can be told what they are.

    None of anything else. The text need not be JSON to its end.
    """
    return _members(text[:_LOOKED_AT])


@lru_cache(maxsize=1)  # asked for the form of an event, and again for its names
def _members(text: bytes) -> Sequence[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    start = 1
    for end in islice(_ends(text), _MOST_MEMBERS):
        if member := _MEMBER.fullmatch(text, start, end):
            try:
                found.append((_name.decode(member[1]), member[2]))
            except strict_json.UNREADABLE:
                break
        start = end + 1
    return found


def is_followed(text: bytes) -> bool:
    """Whether a further object follows an object, as where each line is one."""
    end = max(_ends(text), default=0)
    return bool(end) and text[end + 1 :].lstrip(_BLANK).startswith(b"{")


def _ends(text: bytes) -> Iterator[int]:
    """Where each member of an object ends, up to where the text is cut or has too many brackets."""
    if text.startswith(b"{"):
        try:
            yield from _boundaries(text, _MOST_MARKS)
        except RequestError:
            return


def elements(array: bytes, most: int, begin: Place) -> list[Piece]:
    """The elements of an array that begins there.

    Raises TooLarge, or Unparsable where they cannot be told apart.
    """
    return list(_placed(array, _elements(array, most), begin))


def _placed(array: bytes, texts: Sequence[bytes], begin: Place) -> Iterator[Piece]:
    """The elements with their places: between them are only commas and blanks."""
    line, column = begin
    before, end = 0, 0  # the bracket, as a comma after the others
    has_breaks = b"\n" in array
    for text in texts:
        start = end + 1
        if not array.startswith(text, start):  # looked for only behind blanks: that takes longer
            start = array.index(text, start)
        if has_breaks and (breaks := array.count(b"\n", before, start)):
            line, column = line + breaks, start - array.rindex(b"\n", before, start)
        else:
            column += start - before
        yield text, (line, column)
        before, end = start, start + len(text)


def _elements(array: bytes, most: int) -> list[bytes]:
    if array.count(b",") < most * _COMMAS_PER_EVENT:
        try:
            found = [bytes(element) for element in _array.decode(array)]
        except strict_json.UNREADABLE:
            pass
        else:
            if len(found) > most:
                raise too_many(most)
            return found
    return _by_brackets(array, most)


def _by_brackets(array: bytes, most: int) -> list[bytes]:
    found: list[bytes] = []
    start = 1
    for end in _boundaries(array):
        if len(found) >= most:
            raise too_many(most)
        found.append(array[start:end].strip(_BLANK))
        start = end + 1
    if start != len(array):
        raise Unparsable("The body is not JSON: it goes on after the end of its array.")
    return [] if found == [b""] else found


def _boundaries(array: bytes, most: int = _MOST_BRACKETS) -> Iterator[int]:
    """Where the own commas of an array or an object stand, and its last bracket."""
    place, depth = 1, 1
    for _ in range(most):
        place = _after_mark(array, place, strict_json.MARK if depth == 1 else strict_json.BRACKET)
        depth += _DEEPER.get(array[place - 1], 0)
        if depth == 0 or (depth == 1 and array[place - 1] == _COMMA):
            yield place - 1
        if depth == 0:
            return
    raise TooLarge(f"The array has more than {most:,} brackets to look through.")


def _after_mark(array: bytes, place: int, pattern: re.Pattern[bytes]) -> int:
    """The place behind the next mark that stands in no string. Raises Unparsable without one."""
    while (mark := pattern.match(array, place, place + _WINDOW)) is None:
        outside = _OUTSIDE.match(array, place, place + _WINDOW)
        assert outside
        place = outside.end()
        if array[place : place + 1] == b'"':
            place = _after_string(array, place + 1)
        elif place == len(array):
            raise _endless()
    return mark.end()


def _after_string(array: bytes, place: int) -> int:
    """The place behind a string that is longer than a window, from a place in it."""
    while True:
        inside = _INSIDE.match(array, place, place + _WINDOW)
        assert inside
        end = inside.end()
        if array[end : end + 1] == b'"':
            return end + 1
        if end == place:
            raise _endless()
        place = end


def _endless() -> Unparsable:
    return Unparsable("The body is not JSON: its array, or a string in it, never ends.")
