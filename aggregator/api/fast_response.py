"""An answer whose head is written in one piece where a request asks for nothing unusual."""

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import ClientConnectionResetError, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.web_request import BaseRequest
from multidict import istr

_TYPE = istr("Content-Type")
_HEAD = "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: "
_REST = f"\r\nDate: %s\r\nServer: {SERVER_SOFTWARE}\r\n\r\n"


class FastResponse(web.Response):
    """Answers as `web.Response` does, byte for byte, in less time.

    For a body of bytes and no headers but its type's. Whatever a request or the application asks
    for beyond that is left to `web.Response`.
    """

    _to: BaseRequest | None = None

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Make ready to answer this request."""
        if _is_usual(request) and len(self.headers) == 1:
            self._to = request
            return None
        return await super().prepare(request)

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return super().keep_alive if self._to is None else True

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it all. Raises ConnectionError if nobody is there."""
        if self._to is None:
            await super().write_eof(data)
            return
        transport = self._to.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        assert isinstance(self.body, bytes)
        head = _head(self.status, self.reason, self.headers[_TYPE])
        transport.write(b"%b%d%b%b" % (head, len(self.body), _rest(int(time.time())), self.body))
        await self._to.writer.drain()  # or who never reads would fill the memory with answers


def _is_usual(request: BaseRequest) -> bool:
    return (
        request.version == HttpVersion11
        and request.keep_alive
        and request.method == "POST"
        and isinstance(request, web.Request)
        and not request.app.on_response_prepare
    )


@lru_cache(16)
def _head(status: int, reason: str, content_type: str) -> bytes:
    return (_HEAD % (status, reason, content_type)).encode()


@lru_cache(1)
def _rest(second: int) -> bytes:
    return (_REST % formatdate(second, usegmt=True)).encode()
