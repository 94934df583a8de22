"""Answers for the service while it starts: alive, and not ready yet."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from types import TracebackType

from aiohttp import web

from aggregator.api.hosts import Hosts
from aggregator.api.responses import problem_response
from aggregator.api.status import alive
from aggregator.sockets import BACKLOG, accept_no_more
from aggregator.tls import Certificate, protocols

log = logging.getLogger(__name__)

_SHORT = 0.5  # seconds
_LAST_ANSWERS = 1.0  # seconds
_LINGER = 5.0  # seconds


class StartingServer:
    """Serves on the sockets while the block runs, and leaves them listening.

    `/healthz` is 200, everything else 503 with what is being done, and each answer ends its
    connection, so that the next one reaches the service. In the first _SHORT seconds nobody is
    answered: connections wait, and a start that takes no longer refuses none of them.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        doing: Callable[[], str],
        hosts: Hosts | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._sockets = sockets
        self._doing = doing
        self._hosts = hosts
        self._certificate = certificate
        self._server = web.Server(self._answer, access_log=None)
        self._listeners: list[asyncio.Server] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._serve(), name="starting server")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled() and (fault := self._task.exception()):
            log.error("nobody was answered while the service started: %s", fault)
        await accept_no_more(one for listener in self._listeners for one in listener.sockets)
        for listener in self._listeners:
            listener.close()
        if error or not self._listeners:
            await self._server.shutdown(_LAST_ANSWERS)
        else:
            self._task = asyncio.create_task(self._linger(), name="starting server")

    async def _linger(self) -> None:
        """Answer those who are connected and have not asked yet, for a while."""
        await asyncio.sleep(_LINGER)
        await self._server.shutdown(_LAST_ANSWERS)

    async def _serve(self) -> None:
        await asyncio.sleep(_SHORT)
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            # Known before it is waited for: or one that is made while the start ends is never
            # closed, and goes on to say that the service is starting.
            make = protocols(self._server, one, self._certificate)
            listener = await loop.create_server(
                make, sock=one.dup(), backlog=BACKLOG, start_serving=False
            )
            self._listeners.append(listener)
            await listener.start_serving()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/healthz" and request.method in ("GET", "HEAD"):
            answer = alive()
        elif self._hosts and (refusal := self._hosts.refusal(request)):
            answer = refusal
        else:
            doing = self._doing() or "opening the store"
            told = f"The service is starting ({doing}). Try again."
            answer = problem_response(503, told, {"Retry-After": "1"})
        answer.force_close()
        return answer
