"""Splits a body into events, each still the bytes that it came as.

An array is split by msgspec where that can be done in little memory, and else by its brackets
alone, so that whatever is wrong inside one event leaves the others whole.
"""

from collections.abc import Iterator

import msgspec

from aggregator.api.request import strict_json
from aggregator.errors import RequestError, TooLarge, Unparsable

_BLANK = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_BRACKETS = 2_000_000  # a second or two of work, in a thread
_COMMAS_PER_EVENT = 50  # more of them on average, and msgspec might find millions of elements
_COMMA = ord(",")
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

_array = msgspec.json.Decoder(list[msgspec.Raw])


def trimmed(body: bytes) -> bytes:
    """The body without what may stand around JSON."""
    return body.removeprefix(_BYTE_ORDER_MARK).strip(_BLANK)


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

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece and are not blank, without the blanks around them."""
        first, end, others = self._after_mark(piece).partition(b"\n")
        self._keep(first)
        if not end:
            return []
        whole, _, rest = others.rpartition(b"\n")
        found = [self._line(bytes(self._rest)), *map(self._line, filter(None, whole.split(b"\n")))]
        self._rest.clear()
        self._keep(rest)
        return [line for line in found if line]

    def finish(self) -> list[bytes]:
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


def members(object_: bytes) -> Iterator[bytes]:
    """The members of an object, each with its name, as far as it can be told what they are."""
    start = 1
    try:
        for end in _boundaries(object_):
            yield object_[start:end]
            start = end + 1
    except RequestError:
        return


def elements(array: bytes, most: int) -> list[bytes]:
    """The elements of an array. Raises TooLarge, or Unparsable where they cannot be told apart."""
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


def _boundaries(array: bytes) -> Iterator[int]:
    """Where the own commas of an array or an object stand, and its last bracket."""
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
