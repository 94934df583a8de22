"""Reads the body of a publish request, within bounds.

The bytes must come as they were sent: the runner is made with RUNNER, or aiohttp decompresses.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from aiohttp import ClientError, web
from multidict import istr

from aggregator.core.budget import Reservation
from aggregator.core.quoting import quoted
from aggregator.errors import TooLarge, TooSlow, Unparsable, UnsupportedCoding

_ENCODING = istr("Content-Encoding")
_NONE = ("", "identity")
_ALIASES = {"x-gzip": "gzip"}  # RFC 9110, 8.4.1.3

ENCODINGS = ("gzip", "deflate")
_PIECE = 65_536  # bytes
_GZIP = 31  # wbits: a gzip header and its checksum
_ZLIB = 15
_RAW = -15  # what some publishers send as deflate
_ZLIB_METHOD = 8

RUNNER: dict[str, Any] = {"auto_decompress": False}


def at_once(request: web.Request, reservation: Reservation, most: int) -> bytes | None:
    """The whole body, held in `reservation`, if all has arrived and nothing is compressed.

    Else None: then it comes in `pieces`. Raises TooLarge or QueueFull.
    """
    content = request.content
    if not content.is_eof() or content.exception() or _ENCODING in request.headers:
        return None
    read = content.read_nowait()
    if len(read) > most:
        raise TooLarge(f"The body has {len(read):,} bytes; max_body allows {most:,}.")
    reservation.take(len(read))
    return read


async def pieces(
    request: web.Request, reservation: Reservation, most: int, seconds: float
) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, decompressed, `most` bytes at most, all held in `reservation`.

    Counted here: whoever reads the body as a stream passes aiohttp's own limit by. Raises
    TooLarge, TooSlow, Unparsable, UnsupportedCoding or QueueFull.
    """
    inflater = _inflater(request)
    if (request.content_length or 0) > most:
        raise TooLarge(f"The body has {request.content_length:,} bytes; max_body allows {most:,}.")
    read = 0
    due = asyncio.get_running_loop().time() + seconds
    try:
        while not request.content.at_eof() and (chunk := await _chunk(request, due)):
            for piece in inflater.feed(chunk) if inflater else (chunk,):
                read += len(piece)
                if read > most:
                    raise TooLarge(f"The body has more than the {most:,} bytes of max_body.")
                reservation.take(len(piece))
                yield piece
    except TimeoutError as error:
        raise TooSlow(f"The body did not arrive within {seconds:g} s (body_timeout).") from error
    if inflater:
        inflater.finish()


async def _chunk(request: web.Request, due: float) -> bytes:
    """What has arrived since the last one; nothing at the end."""
    try:
        async with asyncio.timeout_at(due):
            return await request.content.readany()
    except (ClientError, web.RequestPayloadError, ConnectionError) as error:
        raise Unparsable(f"The body ended early: {error}") from error


def _inflater(request: web.Request) -> "Inflater | None":
    said = ",".join(request.headers.getall(_ENCODING, ()))
    named = (coding.strip().lower() for coding in said.split(","))
    codings = [_ALIASES.get(coding, coding) for coding in named if coding not in _NONE]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in ENCODINGS:
        raise UnsupportedCoding(
            f"A body in {quoted(said)} is not read; send it plain, gzip or deflate."
        )
    return Inflater(codings[0])


class Inflater:
    """Decompresses one body as it arrives, never more at a time than asked for.

    aiohttp can do it too, but unpacks a whole chunk before anybody can count it, and takes a gzip
    stream that was cut off for a whole one. `encoding` is one of ENCODINGS.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._stream: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the chunk unpacks to, in pieces. Raises Unparsable where it is damaged."""
        try:
            while chunk:
                if self._stream is None:
                    self._stream = zlib.decompressobj(self._wbits(chunk))
                if piece := self._stream.decompress(chunk, _PIECE):
                    yield piece
                chunk = self._rest()
        except zlib.error as error:
            raise Unparsable(f"The body is no {self._encoding}: {error}.") from error

    def finish(self) -> None:
        """Raise Unparsable unless the body ended where its stream ends."""
        if self._stream is None or not self._stream.eof:
            raise Unparsable(f"The body ended before its {self._encoding} stream did.")

    def _rest(self) -> bytes:
        """What of the chunk is still to be unpacked; a gzip body may hold streams in a row."""
        assert self._stream
        if not self._stream.eof:
            return self._stream.unconsumed_tail
        rest = self._stream.unused_data
        if rest and self._encoding == "gzip":
            self._stream = None
        elif rest:
            raise Unparsable(f"The body goes on after its {self._encoding} stream.")
        return rest

    def _wbits(self, first: bytes) -> int:
        if self._encoding == "gzip":
            return _GZIP
        return _ZLIB if first[0] & 0x0F == _ZLIB_METHOD else _RAW
