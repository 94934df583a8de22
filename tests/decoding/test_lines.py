"""A body is split into the same lines wherever the pieces of it begin and end."""

from collections.abc import Iterable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.api.request.splitting import Lines, Piece

LONGEST = 6

BODIES = {
    "lines": b'{"a"}\n{"b"}\n',
    "no line break at the end": b"one\ntwo",
    "carriage returns": b"one\r\n\r\ntwo\r\n",
    "byte order mark": b"\xef\xbb\xbfone\ntwo",
    "byte order mark before a blank line": b"\xef\xbb\xbf \r\none",
    "byte order mark only": b"\xef\xbb\xbf",
    "half a byte order mark": b"\xef\xbb\none",
    "byte order mark in the middle": b"a\n\xef\xbb\xbfb",
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf\n",
    "sequences of UTF-8": "é\n€\n😀\n".encode(),
    "blanks": b"  a  \n\t\n  \n b",
    "as long as allowed": b"sixsix\r\nsixsix\n",
    "too long": b"a\nseven77\nb",
    "much too long": b"a\n" + b"x" * 20 + b"\nb\n" + b"y" * 20,
    "too long with blanks at its end": b"a" + b" " * 12 + b"\nb",
    "too long with blanks in front": b" " * 12 + b"a\nb",
    "too long with blanks in the middle": b"a" + b" " * 12 + b"b\nc",
    "nothing": b"",
}


def split(pieces: Iterable[bytes]) -> list[Piece]:
    lines = Lines(LONGEST)
    found = [line for piece in pieces for line in lines.feed(piece)]
    return found + lines.finish()


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_lines_do_not_depend_on_the_pieces(body: bytes) -> None:
    whole = split([body])
    for first, second in combinations(range(len(body) + 1), 2):
        assert split([body[:first], body[first:second], body[second:]]) == whole
    assert split(bytes([byte]) for byte in body) == whole


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b" ", b"\n", b"\r", b"\xef\xbb\xbf", b"\xef", b"bcdef"])))
def test_lines_do_not_depend_on_pieces_of_any_size(pieces: list[bytes]) -> None:
    assert split(pieces) == split([b"".join(pieces)])


def test_lines_are_those_that_are_not_blank_without_blanks_around_them() -> None:
    assert split([b"\xef\xbb\xbf a b \r\n\n\t\r\nc"]) == [(b"a b", (1, 1)), (b"c", (4, 1))]


def test_no_more_is_kept_of_a_line_than_shows_that_it_is_too_long() -> None:
    for body in (b"x" * 1000, b"a" + b" " * 1000 + b"b"):
        ((line, _),) = split([body[:300], body[300:]])
        assert LONGEST < len(line) <= LONGEST + 2
        assert body.startswith(line)
