"""Sends answers within bounds of memory and time, and limits how many read the store at once."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import HttpVersion11, web

from aggregator.api.client_address import Clients
from aggregator.core.budget import Budget, Reservation
from aggregator.errors import QueueFull, Unavailable
from aggregator.store import PAGE_BYTES, Store

SMALL = 65_536
"""Bytes that the socket's buffer takes anyway: an answer of so few is not counted."""

_POLL = 0.1  # seconds until a full budget is looked at again
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds: closing sends a reset
_LAST_MESSAGE = 1.0  # seconds in which a client that is cut off may still read why


class Sender:
    """Sends answers piece by piece, as fast as they are read.

    Answers that wait to be read hold a budget, and while it is used up no further ones are made.
    A client that takes longer than `seconds` is cut off.
    """

    def __init__(self, budget: Budget, clients: Clients, seconds: float) -> None:
        self.seconds = seconds
        self.budget = budget
        self.clients = clients
        self._end = float("inf")
        self._limits: set[asyncio.Timeout] = set()

    def check_room(self, request: web.BaseRequest, size: int = 0) -> None:
        """Raise QueueFull unless so much more may wait to be read, by all and by this client.

        An answer that is larger than the whole budget has room while nothing else waits.
        """
        self.budget.check_room(self.clients.of(request), min(size, self.budget.most))

    async def wait_for_room(self, request: web.BaseRequest) -> None:
        """Wait until there is room; raise TimeoutError if that takes too long."""
        async with self.limit_to_the_end():
            while True:
                try:
                    return self.check_room(request)
                except QueueFull:
                    await asyncio.sleep(_POLL)

    def reserve(self, request: web.BaseRequest) -> Reservation:
        """A reservation for an answer to that request."""
        return self.budget.reserve(self.clients.of(request))

    def hurry(self, seconds: float) -> None:
        """From now on cut off clients after `seconds`, also those that are reading already."""
        self.seconds = seconds
        self._end = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(self._end)

    async def send(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """Send the answer, if it is large; a small one is returned for aiohttp to send.

        Not to a client that has not taken the one before: aiohttp would wait for it without end.
        """
        body = answer.body
        if not isinstance(body, bytes) or request.method == "HEAD":
            return answer
        transport = request.transport
        if len(body) <= SMALL and (transport is None or not transport.get_write_buffer_size()):
            return answer
        stream = web.StreamResponse(status=answer.status, headers=answer.headers)
        stream.content_length = len(body)
        with suppress(TimeoutError, ConnectionError), self.reserve(request) as reservation:
            reservation.hold(len(body))
            async with self.stream(request, stream), self.limit():
                for start in range(0, len(body), SMALL):
                    await stream.write(body[start : start + SMALL])
        return stream

    @asynccontextmanager
    async def stream(
        self, request: web.Request, answer: web.StreamResponse
    ) -> AsyncIterator["BodyWriter"]:
        """A writer for the answer's body, which ends where the block does.

        When the block raises, the connection is cut, so that nobody takes a part for the whole.
        """
        writer = BodyWriter(self, request, answer)
        try:
            await answer.prepare(request)
            yield writer
            async with self.limit():
                await answer.write_eof()
                # aiohttp waits for who reads nothing only after 64 KiB of one and the same answer.
                await request.writer.drain()
        except BaseException:
            writer.abort()
            raise

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Raise TimeoutError if the block takes too long."""
        async with self._until(asyncio.get_running_loop().time() + self.seconds):
            yield

    @asynccontextmanager
    async def limit_to_the_end(self) -> AsyncIterator[None]:
        """The same for an answer of many parts, which ends soon after `hurry` as a whole."""
        async with self._until(min(asyncio.get_running_loop().time() + self.seconds, self._end)):
            yield

    @asynccontextmanager
    async def _until(self, due: float) -> AsyncIterator[None]:
        async with asyncio.timeout_at(due) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)


class BodyWriter:
    """Writes the body of an answer piece by piece, as it is made."""

    def __init__(self, sender: Sender, request: web.Request, answer: web.StreamResponse) -> None:
        self._sender = sender
        self._request = request
        self._answer = answer
        self._is_within = False

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed the connection."""
        transport = self._request.transport
        return transport is None or transport.is_closing()

    async def write(self, *parts: bytes) -> None:
        """Send them; they hold the budget meanwhile.

        Raises TimeoutError if a piece of them is not taken in time, ConnectionError if nobody is
        there.
        """
        with self._sender.reserve(self._request) as reservation:
            reservation.hold(sum(map(len, parts)))
            for part in parts:
                for start in range(0, len(part), SMALL):
                    self._is_within = start + SMALL < len(part)
                    async with self._sender.limit_to_the_end():
                        await self._answer.write(part[start : start + SMALL])

    async def write_last(self, message: bytes) -> None:
        """Write a last message without waiting for what is not read; the connection ends soon.

        Not after half of a part: a client would take the two for one.
        """
        if not self._is_within:
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0):
                    await self._answer.write(message)
        if transport := self._request.transport:
            transport.close()
            asyncio.get_running_loop().call_later(_LAST_MESSAGE, self._end_connection)

    def _end_connection(self) -> None:
        if transport := self._request.transport:  # None once the connection has ended by itself
            transport.abort()

    def abort(self) -> None:
        """Cut the connection at once, unless it is about to end with a last message.

        For HTTP/1.0 with a reset: there an answer ends with the connection, were it cut or whole.
        """
        if self.is_gone or self._request.transport is None:
            return
        connection = self._request.transport.get_extra_info("socket")
        if connection and self._request.version < HttpVersion11:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._request.transport.abort()


class ReadLimiter:
    """Limits how many read a page of the store at once; clients who wait take turns.

    So what is read and not sent yet stays bounded, and whoever asks for one page waits for one of
    each client and not for all that another has asked for. Whoever keeps the store for more than
    `seconds` is interrupted by a TimeoutError.
    """

    def __init__(
        self, store: Store, sender: Sender, most: int, seconds: float | None = None
    ) -> None:
        self._store = store
        self._sender = sender
        self._seconds = seconds
        self._free = most
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Those of each client; the client whose turn is next comes first."""

    @asynccontextmanager
    async def acquire(self, request: web.BaseRequest | None = None) -> AsyncIterator[Store]:
        """The store, for one page. Raises Unavailable if that takes too long.

        Raises QueueFull while too much waits to be read. Without a request the page is for several
        clients, each of which has room.
        """
        client = "" if request is None else self._sender.clients.of(request)
        async with self._slot(client), asyncio.timeout(self._seconds):
            if request is None:
                yield self._store
                return
            if request.transport is None:  # nobody reads the answer, and others wait
                raise Unavailable("The client has left.")
            with self._sender.reserve(request) as page:  # until its answer is made, and held
                page.take(PAGE_BYTES)
                yield self._store

    @asynccontextmanager
    async def _slot(self, client: str) -> AsyncIterator[None]:
        if self._free:  # then nobody waits
            self._free -= 1
        else:
            await self._turn(client)
        try:
            yield
        finally:
            self._pass_on()

    async def _turn(self, client: str) -> None:
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(given)
        try:
            async with self._sender.limit_to_the_end():
                await given
        except (asyncio.CancelledError, TimeoutError) as error:
            if not given.cancelled():  # it was given in the same moment
                self._pass_on()
            if isinstance(error, TimeoutError):
                raise Unavailable("Too many read the store, or it stops. Try again.") from error
            raise

    def _pass_on(self) -> None:
        """Give a slot to whoever is next; that client's others wait until all had a turn."""
        while self._waiting:
            client = next(iter(self._waiting))
            of_client = self._waiting.pop(client)
            given = of_client.popleft()
            if of_client:
                self._waiting[client] = of_client
            if not given.done():  # else cancelled
                given.set_result(None)
                return
        self._free += 1
