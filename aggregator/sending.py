"""Sends large answers within bounds: readers who do not read cost neither memory nor time."""

import asyncio

from aiohttp import web

from aggregator.budget import Budget

_SMALL = 65_536  # bytes; what the socket's buffer takes anyway


class Sender:
    """Sends answers piece by piece, as fast as they are read.

    Answers that wait to be read hold a budget, and while it is used up no further ones are made.
    A client that takes longer than `seconds` is cut off.
    """

    def __init__(self, budget: Budget, seconds: float) -> None:
        self._budget = budget
        self._seconds = seconds
        self._limits: set[asyncio.Timeout] = set()

    def check_room(self) -> None:
        """Raise QueueFull if too much waits to be read already."""
        with self._budget.share() as share:
            share.take(0)

    def hurry(self, seconds: float) -> None:
        """From now on cut off clients after `seconds`, those who are reading already included."""
        self._seconds = seconds
        due = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(due)

    async def send(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """The answer, sent already if it is large."""
        body = answer.body
        if not isinstance(body, bytes) or len(body) <= _SMALL or request.method == "HEAD":
            return answer
        with self._budget.share() as share:
            share.hold(len(body))
            return await self._stream(request, answer, body)

    async def _stream(
        self, request: web.Request, answer: web.Response, body: bytes
    ) -> web.StreamResponse:
        stream = web.StreamResponse(status=answer.status, headers=answer.headers)
        stream.content_length = len(body)
        await stream.prepare(request)
        try:
            async with asyncio.timeout(self._seconds) as limit:
                self._limits.add(limit)
                for start in range(0, len(body), _SMALL):
                    await stream.write(body[start : start + _SMALL])
                await stream.write_eof()
        except (TimeoutError, ConnectionError):
            if request.transport:
                request.transport.abort()
        finally:
            self._limits.discard(limit)
        return stream
