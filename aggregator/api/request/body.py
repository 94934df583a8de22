"""Reads the body of a publish request, within bounds.

The bytes must come as they were sent: the runner is made with RUNNER, or aiohttp decompresses.
"""

import asyncio
import math
import zlib
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from aiohttp import ClientError, StreamReader, web
from multidict import istr

from aggregator.config import Settings
from aggregator.core.budget import Reservation
from aggregator.core.quoting import quoted
from aggregator.errors import TooLarge, TooSlow, Unparsable, UnsupportedCoding

_ENCODING = istr("Content-Encoding")
_NONE = ("", "identity")
_ALIASES = {"x-gzip": "gzip"}  # RFC 9110, 8.4.1.3

ENCODINGS = ("gzip", "deflate")
_PIECE = 65_536  # bytes
_SLICE = 4096  # compressed bytes; where a gzip member ends, what is left of a slice is copied
_BEHIND = 5.0
"""Seconds that a body may be late by `body_rate`."""
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
    request: web.Request, reservation: Reservation, settings: Settings
) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, decompressed, `max_body` bytes at most, all held in `reservation`.

    Compressed bytes are bounded as well, and not held: what has arrived is unpacked at once, so
    there are no more of them than a connection keeps unread anyway, and a body that hardly shrinks
    needs no room for both. The loop has its turn after each slice, whatever it yields. Counted
    here: whoever reads the body as a stream passes aiohttp's own limit by. Raises TooLarge,
    TooSlow, Unparsable, UnsupportedCoding or QueueFull.
    """
    inflater = _inflater(request)
    most = settings.max_body
    if (request.content_length or 0) > most:
        raise TooLarge(f"The body has {request.content_length:,} bytes; max_body allows {most:,}.")
    arrived = read = 0
    arrival = _Arrival(request.content, settings)
    while not request.content.at_eof() and (chunk := await arrival.next()):
        arrived += len(chunk)
        if arrived > most:
            raise TooLarge(f"The body has more than the {most:,} bytes of max_body.")
        if inflater is None:
            reservation.take(len(chunk))
            yield chunk
            continue
        for piece in inflater.feed(chunk):
            read += len(piece)
            if read > most:
                raise TooLarge(f"The body has more than the {most:,} bytes of max_body.")
            reservation.take(len(piece))
            if piece:
                yield piece
            await asyncio.sleep(0)
    if inflater:
        inflater.finish()


class _Arrival:
    """Waits for a body. The time that is spent on what has come does not count.

    A byte buys the time that it may take by `body_rate`, and nobody is ever more than _BEHIND
    ahead, or who has sent nearly all at once could hold it for as long as `body_timeout` allows.
    """

    def __init__(self, content: StreamReader, settings: Settings) -> None:
        self._content = content
        self._settings = settings
        self._left = settings.body_timeout
        self._ahead = _BEHIND if settings.body_rate else math.inf

    async def next(self) -> bytes:
        """What has arrived since the last time; nothing at the end. Raises TooSlow."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(min(self._left, self._ahead)):
                chunk = await self._content.readany()
        except TimeoutError as error:
            raise TooSlow(self._why()) from error
        except (ClientError, web.RequestPayloadError, ConnectionError) as error:
            raise Unparsable(f"The body ended early: {error}") from error
        waited = clock() - began
        self._left -= waited
        if rate := self._settings.body_rate:
            self._ahead = min(self._ahead - waited + len(chunk) / rate, _BEHIND)
        return chunk

    def _why(self) -> str:
        if self._left <= self._ahead:
            return (
                f"The body did not arrive within {self._settings.body_timeout:g} s (body_timeout)."
            )
        return (
            f"The body came at less than {self._settings.body_rate:,} bytes a second (body_rate), "
            f"and is more than {_BEHIND:g} s late."
        )


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
        """What the chunk unpacks to, in pieces; empty ones tell only that some work is done.

        Raises Unparsable where it is damaged.
        """
        for start in range(0, len(chunk), _SLICE):
            rest = chunk[start : start + _SLICE]
            try:
                while rest:
                    if self._stream is None:
                        self._stream = zlib.decompressobj(self._wbits(rest))
                    if piece := self._stream.decompress(rest, _PIECE):
                        yield piece
                    rest = self._rest()
            except zlib.error as error:
                raise Unparsable(f"The body is no {self._encoding}: {error}.") from error
            yield b""

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
