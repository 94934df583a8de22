"""What is refused in front of the application, and the line in the log for all that is refused."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web
from multidict import istr

from aggregator.api.client_address import UNIX, Clients
from aggregator.api.hosts import Hosts
from aggregator.api.responses import ProblemResponse, problem_response
from aggregator.core.fault_log import Seldom, in_a_line
from aggregator.core.quoting import cut
from aggregator.core.redact import without_credentials

log = logging.getLogger(__name__)

_EXPECT = istr("Expect")
_TOLD = frozenset({400, 401, 403, 408, 413, 415, 417, 421, 422, 429})  # what its sender has to mend
_LONGEST = 1_000  # bytes

_seldom = Seldom()
"""Anybody can send what is refused, as often as they like."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def refusing(handle: Handler, hosts: Hosts | None, clients: Clients) -> Handler:
    """Look at each request before the application does, and at each answer after it.

    Not a middleware: those come after the routes, and after a client has been asked for its body.
    """

    async def refusing(request: web.BaseRequest) -> web.StreamResponse:
        refusal = (hosts.refusal(request) if hosts else None) or _unmet(request)
        answer = refusal or await handle(request)
        if answer.status in _TOLD:
            why = answer.detail if isinstance(answer, ProblemResponse) else answer.reason
            tell(clients.of(request), f"{request.method} {cut(request.path)}", answer.status, why)
        return answer

    return refusing


def _unmet(request: web.BaseRequest) -> web.Response | None:
    """The answer to a client that expects what is not done here; aiohttp asks for the body."""
    if _EXPECT not in request.headers:
        return None
    expected = ",".join(request.headers.getall(_EXPECT))
    if expected.lower() in ("", "100-continue"):
        return None
    return problem_response(
        HTTPStatus.EXPECTATION_FAILED,
        f"Nothing but 100-continue can be expected here, not {cut(expected)}.",
    )


def tell(client: str, what: str, status: int, why: str) -> None:
    """Say that somebody was refused, once in a while for each client and status."""
    if (more := _seldom.told(f"{status} {client}")) is not None:
        who = "somebody at the Unix socket" if client == UNIX else client
        told = without_credentials(f"{who}: {what} was refused with {status}: {why}")
        log.info("%s%s", in_a_line(told, _LONGEST), more)
