"""A connection's protocol: connections and what they hold are bounded, also before any request.

What is no HTTP request is answered with a problem, and a stop waits for nothing in vain. aiohttp
3.14 has no public way to either, so private parts of it are overridden; setup.cfg asks for no later
minor release.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from aggregator.api.client_address import Clients
from aggregator.api.hosts import Hosts
from aggregator.api.refusals import refusing, tell
from aggregator.api.responses import problem_response
from aggregator.core.budget import Budget, Reservation
from aggregator.core.fault_log import Seldom
from aggregator.core.metrics import Metrics
from aggregator.core.quoting import cut, quoted
from aggregator.errors import QueueFull
from aggregator.tls import Certificate, ProtocolFactory, TlsProtocol, protocols

log = logging.getLogger(__name__)

_LONGEST_WHY = 300  # characters
_LOOK_AGAIN = 0.02  # seconds
_CHUNK = 65_536  # bytes that are received at once; asyncio's own are four times as many
_UNREAD = 32_768  # bytes of a body that nobody reads; twice as many before it is received no more
_UNSENT = 32_768  # bytes of answers that wait for a client, beside those of the budget
_AHEAD = 2  # requests that are read while the one before is answered
_LONGEST_HEAD = 16_384  # bytes; what is kept of it comes to more than twice as much
_HEAD_TIMEOUT = 10.0  # seconds from its first byte; for the first one, from the connection on

_HEAD_TOO_LONG = (
    f"The head of this request has more than the {_LONGEST_HEAD:,} bytes that are read."
)

_TLS_ONLY = "This port speaks TLS: its URL begins with https://."

_seldom = Seldom()
"""Anybody can send what is no request, or connect, as often as they like."""


class Doorkeeper:
    """Lets connections in as long as there is room, for all and for the client.

    Where there is none, a connection that waits for its next request makes room: one of the
    client's own if it holds its share, else one of the client that holds most.
    """

    def __init__(self, budget: Budget, clients: Clients) -> None:
        self.budget = budget
        self.clients = clients

    def admit(self, address: str, waiting: Callable[[str], "_Protocol | None"]) -> Reservation:
        """The place of a connection from there; `waiting` finds a client's that can be ended.

        Behind a listed proxy are many clients, so that it has no share itself. Raises QueueFull.
        """
        client, is_proxy = self.clients.of_address(address)
        place = self.budget.reserve(client)
        sharer = "" if is_proxy else client
        try:
            self.budget.check_room(sharer, 1)
        except QueueFull:
            if (connection := waiting(self.budget.crowded_by(sharer))) is None:
                raise
            connection.give_up_place()
        place.hold(1)
        return place


DOORKEEPER = web.AppKey("DOORKEEPER", Doorkeeper)
METRICS = web.AppKey("METRICS", Metrics)


class AppRunner(web.AppRunner):
    """Runs an application behind this protocol, and is otherwise aiohttp's.

    With `hosts` it is only for what was meant for one of these.
    """

    def __init__(
        self,
        app: web.Application,
        hosts: Hosts | None = None,
        certificate: Certificate | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(app, **settings)
        self._hosts = hosts
        self._certificate = certificate

    def protocols(self, listening: socket.socket) -> ProtocolFactory:
        """What makes the protocols of connections to that socket."""
        assert self.server
        return protocols(self.server, listening, self._certificate, _CountedTls)

    async def wait_for_requests(self, seconds: float) -> None:
        """Wait so long at most until each connection has sent a request.

        Those that are then still in their handshake are ended: they are none to aiohttp.
        """
        clock = asyncio.get_running_loop()
        due = clock.time() + seconds
        assert isinstance(self.server, _Server)
        while any(map(_is_new, self.server.admitted)) and clock.time() < due:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN)
        for one in list(self.server.admitted):
            if one.handshake:
                one.give_up_place()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        doorkeeper = self.app[DOORKEEPER]
        return _Server(
            doorkeeper,
            self.app[METRICS],
            refusing(made.request_handler, self._hosts, doorkeeper.clients, self.app[METRICS]),
            request_factory=_remembering(made.request_factory),
            handler_cancellation=made.handler_cancellation,
            **made._kwargs | {"read_bufsize": _UNREAD},
        )


def _remembering(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """Let the protocol know the body of the request that it serves."""

    def made(
        message: RawRequestMessage, body: StreamReader, protocol: "_Protocol", *rest: Any
    ) -> web.BaseRequest:
        protocol.body = body
        return make(message, body, protocol, *rest)

    return made


class _Server(web.Server):
    def __init__(self, doorkeeper: Doorkeeper, metrics: Metrics, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._doorkeeper = doorkeeper
        self.metrics = metrics
        self.admitted: dict[_Protocol, None] = {}
        """Connections that have a place, the oldest first; some are in their handshake."""

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)

    def admit(self, address: str) -> Reservation:
        """The place of a connection from there. Raises QueueFull."""
        return self._doorkeeper.admit(address, self._waiting)

    def _waiting(self, client: str) -> "_Protocol | None":
        """The client's oldest connection that waits for a request, or for the handshake's end."""
        for one in self.admitted:
            if one.is_idle and one.place.client == client:
                return one
        return None


class _Protocol(web.RequestHandler):
    __slots__ = ("_head_bytes", "_head_timer", "body", "handshake", "place")

    body: StreamReader | None
    handshake: asyncio.Transport | None
    """What is below TLS, until its handshake has ended."""
    place: Reservation
    """Of the connection, among those that may be open."""

    def __init__(self, manager: _Server, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.body = None
        self.handshake = None
        self._head_bytes = 0  # of a head that is not complete
        self._head_timer: asyncio.TimerHandle | None = None
        # Its default would read and keep 32 requests ahead, whatever the size of their heads.
        self._max_msg_queue_size, self._msg_queue_resume_size = _AHEAD, 0
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=RequestPayloadError,
            auto_decompress=kwargs.get("auto_decompress", True),
            max_msg_queue_size=_AHEAD,
        )

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a next request has come."""
        if self.handshake:
            return True
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._head_bytes

    def enter(self, transport: asyncio.Transport) -> str:
        """Take a place for the connection; return why there is none for it, else nothing."""
        assert isinstance(self._manager, _Server)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        try:
            self.place = self._manager.admit(address)
        except QueueFull as error:
            self._manager.metrics.rejected[503, "connections"] += 1
            if (more := _seldom.told("connections")) is not None:
                log.warning("a connection from %s is refused: %s%s", address, error, more)
            self._manager = None  # so that nothing is expected of it any more
            return str(error)
        self._manager.admitted[self] = None
        return ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self.handshake:
            self.handshake = None
        elif why := self.enter(transport):
            transport.write(_last_words(HTTPStatus.SERVICE_UNAVAILABLE, why))
            transport.close()
            return
        transport.max_size = _CHUNK  # type: ignore[attr-defined]
        transport.set_write_buffer_limits(_UNSENT)
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(_HEAD_TIMEOUT, self._end_slow_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._manager is not None:
            self.give_up_place()
            self._forget_head()
        super().connection_lost(exc)

    def give_up_place(self) -> None:
        """End the connection, if it has not ended yet; another one may have its place."""
        self.place.release()
        if isinstance(self._manager, _Server):
            self._manager.admitted.pop(self, None)
        # With TLS, to close is to wait until the client says that it closes too.
        if self.handshake:
            self.handshake.abort()
        elif self.transport and not self.transport.get_write_buffer_size():
            self.transport.abort()
        self.force_close()

    def refuse_handshake(self, error: ssl.SSLError) -> None:
        """Tell the log of it, and a client that speaks plain HTTP what to do."""
        assert self.handshake
        self._count_refusal(HTTPStatus.BAD_REQUEST)
        why = (error.reason or "it cannot be read").lower().replace("_", " ")
        tell(self.place.client, "a TLS handshake", HTTPStatus.BAD_REQUEST, why)
        if error.reason == "HTTP_REQUEST":
            self.handshake.write(_last_words(HTTPStatus.BAD_REQUEST, _TLS_ONLY))

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():  # it is of a body, or comes in advance
            super().data_received(data)
            return
        super().data_received(data)
        self._head_bytes += len(data)
        if waiter.done():
            if self._head_bytes > _LONGEST_HEAD:  # with what has come of the body
                self._refuse_long_head()
            self._forget_head()
        elif self._head_bytes > _LONGEST_HEAD:
            self._end_with(HTTPStatus.BAD_REQUEST, _HEAD_TOO_LONG)
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(_HEAD_TIMEOUT, self._end_slow_head)

    def _refuse_long_head(self) -> None:
        message, _ = self._messages[0]
        headers = getattr(message, "raw_headers", ())
        if sum(len(name) + len(value) + 4 for name, value in headers) > _LONGEST_HEAD:
            why = _ErrInfo(HTTPStatus.BAD_REQUEST, BadHttpMessage(_HEAD_TOO_LONG), _HEAD_TOO_LONG)
            self._messages[0] = why, EMPTY_PAYLOAD
            self._close = True  # nothing more is read

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_slow_head(self) -> None:
        """End a connection that has sent a part of a head, with words; else without."""
        self._head_timer = None
        if self._head_bytes:
            why = f"The head of this request did not arrive within {_HEAD_TIMEOUT:g} s."
            self._end_with(HTTPStatus.REQUEST_TIMEOUT, why)
        else:
            self.force_close()

    def _end_with(self, status: HTTPStatus, why: str) -> None:
        self._count_refusal(status)
        tell(self.place.client, "a head", status, why)
        if self.transport is not None:
            self.transport.write(_last_words(status, why))
        self.force_close()

    def _count_refusal(self, status: HTTPStatus) -> None:
        if isinstance(self._manager, _Server):
            self._manager.metrics.rejected[status, "no_request"] += 1

    def close(self) -> None:
        """End the connection after its answer, as at a stop, and wait for no body any more.

        What arrives of one is dropped from now on, and it would be waited for in vain.
        """
        self._lingering_time = 0.0
        if self.body is not None and not self.body.is_eof():
            self.body.set_exception(TimeoutError())
        super().close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != HTTPStatus.BAD_REQUEST:
            super().handle_error(request, status, exc, message)  # logs it
            why = "The service failed; its log says more."
        elif request.writer.output_size:
            raise ConnectionError("the answer has begun, so that no problem can be sent any more")
        else:
            why = _why(exc, message or "")
            self._count_refusal(HTTPStatus.BAD_REQUEST)
            tell(self.place.client, "what is no request", status, why)
        answer = problem_response(status, why)
        answer.force_close()
        return answer


class _CountedTls(TlsProtocol):
    """A connection has its place from the moment on in which it is accepted."""

    _app_protocol: _Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake if there is room; nothing can be said before it has ended."""
        assert isinstance(transport, asyncio.Transport)
        if self._app_protocol.enter(transport):
            transport.abort()
            return
        self._app_protocol.handshake = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._app_protocol.handshake:
            self._app_protocol.give_up_place()
        super().connection_lost(exc)

    def _on_handshake_complete(self, handshake_exc: Any) -> None:
        if isinstance(handshake_exc, ssl.SSLError):  # and not that the client has left
            self._app_protocol.refuse_handshake(handshake_exc)
        super()._on_handshake_complete(handshake_exc)


def _last_words(status: HTTPStatus, why: str) -> bytes:
    """A whole answer, for who is given no other one."""
    answer = problem_response(status, why)
    assert isinstance(answer.body, bytes)
    retry = "Retry-After: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {status} {answer.reason}\r\nContent-Type: {answer.content_type}\r\n{retry}"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + answer.body


def _is_new(connection: _Protocol) -> bool:
    return connection.body is None


def _why(error: BaseException | None, message: str) -> str:
    if isinstance(error, LineTooLong):
        begin, most = error.args[:2]
        shown = begin if isinstance(begin, str) else begin.decode(errors="backslashreplace")
        return (
            f"The first line, or a header, has more than the {most:,} bytes that are read: "
            f"{quoted(shown)}. An attribute that is longer goes in the structured mode."
        )
    # aiohttp shows the place in lines of their own, and marks it in the last one.
    lines = (line.strip() for line in message.splitlines())
    told = " ".join(line for line in lines if line.strip("^"))
    return f"This is no HTTP request that can be read: {cut(told, _LONGEST_WHY)}"
