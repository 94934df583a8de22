"""A connection's protocol: a problem for what is no HTTP request, and no vain wait at a stop.

aiohttp 3.14 has no public way to either, so private parts of it are overridden; setup.cfg asks for
no later minor release.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from aggregator.api.hosts import Hosts
from aggregator.api.refusals import refusing, tell
from aggregator.api.responses import problem_response
from aggregator.core.quoting import cut, quoted

log = logging.getLogger(__name__)

_LONGEST_WHY = 300  # characters
_LOOK_AGAIN = 0.02  # seconds


class AppRunner(web.AppRunner):
    """Runs an application behind this protocol, and is otherwise aiohttp's.

    With `hosts` it is only for what was meant for one of these.
    """

    def __init__(self, app: web.Application, hosts: Hosts | None = None, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._hosts = hosts

    async def wait_for_requests(self, seconds: float) -> None:
        """Wait so long at most until each connection has sent a request."""
        clock = asyncio.get_running_loop()
        due = clock.time() + seconds
        assert self.server
        while any(map(_is_new, self.server.connections)) and clock.time() < due:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_AGAIN)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            refusing(made.request_handler, self._hosts),
            request_factory=_remembering(made.request_factory),
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
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
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Protocol(web.RequestHandler):
    __slots__ = ("body",)

    body: StreamReader | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.body = None

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
            tell(request, "what is no request", status, why)
        answer = problem_response(status, why)
        answer.force_close()
        return answer


def _is_new(connection: web.RequestHandler) -> bool:
    return isinstance(connection, _Protocol) and connection.body is None


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
