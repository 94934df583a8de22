"""Reads the body of a publish request, within bounds.

The bytes must come as they were sent: the runner is made with RUNNER, or aiohttp decompresses.
"""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

from aiohttp import ClientError, web
from multidict import istr

from aggregator.core.budget import Reservation
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


class Body:
    """The body of a request as it arrives, piece by piece, decompressed.

    It is counted here, since aiohttp's own limit does not hold for a body that is read as a stream:
    `most` bytes at most, each held in the share. Iterating raises TooLarge, TooSlow, Unparsable,
    UnsupportedCoding or QueueFull.
    """

    # Not an async generator: to begin and close one takes longer than all else that is done here.

    def __init__(
        self, request: web.Request, reservation: Reservation, most: int, seconds: float
    ) -> None:
        self._request = request
        self._share = reservation
        self._most = most
        self._seconds = seconds
        self._due = asyncio.get_running_loop().time() + seconds
        self._inflater = _inflater(request)
        self._pieces: Iterator[bytes] = iter(())
        self._read = 0
        length = request.content_length or 0
        if length > most:
            raise TooLarge(f"The body has {length:,} bytes; max_body allows {most:,}.")

    def __aiter__(self) -> "Body":
        """Itself, which can be iterated over once."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        while (piece := next(self._pieces, None)) is None:
            if not (chunk := await self._chunk()):
                if self._inflater:
                    self._inflater.finish()
                raise StopAsyncIteration
            self._pieces = self._inflater.feed(chunk) if self._inflater else iter((chunk,))
        self._read += len(piece)
        if self._read > self._most:
            raise TooLarge(f"The body has more than the {self._most:,} bytes of max_body.")
        self._share.take(len(piece))
        return piece

    async def _chunk(self) -> bytes:
        """What has arrived since the last one; nothing at the end."""
        content = self._request.content
        try:
            # Most often all of it is there; to set a timer would take longer than to read it.
            if (chunk := content.read_nowait()) or content.at_eof():
                return chunk
            async with asyncio.timeout_at(self._due):
                return await content.readany()
        except TimeoutError as error:
            detail = f"The body did not arrive within {self._seconds:g} s (body_timeout)."
            raise TooSlow(detail) from error
        except (ClientError, web.RequestPayloadError, ConnectionError) as error:
            raise Unparsable(f"The body ended early: {error}") from error


def _inflater(request: web.Request) -> "Inflater | None":
    if _ENCODING not in request.headers:
        return None
    said = ",".join(request.headers.getall(_ENCODING, ()))
    named = (coding.strip().lower() for coding in said.split(","))
    codings = [_ALIASES.get(coding, coding) for coding in named if coding not in _NONE]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in ENCODINGS:
        raise UnsupportedCoding(f"A body in {said!r} is not read; send it plain, gzip or deflate.")
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
