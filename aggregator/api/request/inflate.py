"""Decompresses a body as it arrives, never more at a time than asked for.

aiohttp can do it too, but unpacks a whole chunk before anybody can count it, and takes a gzip
stream that was cut off for a whole one.
"""

import zlib
from collections.abc import Iterator

from aggregator.errors import Unparsable

ENCODINGS = ("gzip", "deflate")
_PIECE = 65_536  # bytes
_GZIP = 31  # wbits: a gzip header and its checksum
_ZLIB = 15
_RAW = -15  # what some publishers send as deflate
_ZLIB_METHOD = 8


class Inflater:
    """One compressed body; `encoding` is one of ENCODINGS."""

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
