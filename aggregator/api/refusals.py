"""What is refused in front of the application, and the line in the log for all that is refused."""

import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import istr

from aggregator.api.client_address import UNIX, Clients
from aggregator.api.hosts import Hosts
from aggregator.api.responses import ProblemResponse, problem_response
from aggregator.core.fault_log import Seldom, in_a_line
from aggregator.core.metrics import Metrics
from aggregator.core.quoting import cut
from aggregator.core.redact import without_credentials
from aggregator.logs import ACCESS

log = logging.getLogger(__name__)

_EXPECT = istr("Expect")
_TOLD = frozenset({400, 401, 403, 408, 413, 415, 417, 421, 422, 429})  # what its sender has to mend
_NO_ROUTE, _NO_METHOD, _NO_REASON = "none", "other", "other"
_LONGEST = 1_000  # bytes

_seldom = Seldom()
"""Anybody can send what is refused, as often as they like."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def refusing(handle: Handler, hosts: Hosts | None, clients: Clients, metrics: Metrics) -> Handler:
    """Look at each request before the application does, and at each answer after it.

    Not a middleware: those come after the routes, and after a client has been asked for its body.
    """

    async def refusing(request: web.BaseRequest) -> web.StreamResponse:
        begun = time.perf_counter()
        refusal = (hosts.refusal(request) if hosts else None) or _unmet(request)
        answer = refusal or await handle(request)
        seconds = time.perf_counter() - begun
        _count(metrics, request, answer, seconds)
        if ACCESS.isEnabledFor(logging.INFO):
            _log_access(clients.of(request), request, answer, seconds)
        if answer.status in _TOLD:
            why = answer.detail if isinstance(answer, ProblemResponse) else answer.reason
            tell(clients.of(request), f"{request.method} {cut(request.path)}", answer.status, why)
        return answer

    return refusing


def _log_access(
    client: str, request: web.BaseRequest, answer: web.StreamResponse, seconds: float
) -> None:
    """Without what stands behind the question mark: it may name what payloads have."""
    path = in_a_line(without_credentials(cut(request.path)), _LONGEST)
    sent = answer.content_length
    if sent is None:  # a stream, and known only if it has come to its end
        sent = answer.body_length or None
    members = {
        "client": client,
        "method": in_a_line(request.method, _LONGEST),
        "path": path,
        "status": answer.status,
        "bytes": sent,
        "milliseconds": round(1000 * seconds, 3),
    }
    told = "%(client)s: %(method)s %(path)s %(status)s, %(bytes)s bytes, %(milliseconds)s ms"
    ACCESS.info(told, members | {"bytes": "?" if sent is None else sent}, extra=members)


def _count(
    metrics: Metrics, request: web.BaseRequest, answer: web.StreamResponse, seconds: float
) -> None:
    # The public name asserts that there is one: there is none of what was refused in front.
    match = getattr(request, "_match_info", None)
    resource = match.route.resource if match is not None else None
    route = resource.canonical if resource is not None else _NO_ROUTE
    # Anybody can make up methods, and each would be a series of its own.
    method = request.method if request.method in hdrs.METH_ALL else _NO_METHOD
    metrics.requests[route, method, answer.status] += 1
    if answer.content_length is not None:  # else it lasts as long as somebody reads
        metrics.request_seconds[route].observe(seconds)
    if answer.status >= 400:
        metrics.rejected[answer.status, reason_of(answer)] += 1


def reason_of(answer: web.StreamResponse) -> str:
    """Why a request was refused, in a word: the kind of the error, or else the status."""
    if isinstance(answer, ProblemResponse) and answer.kind:
        return answer.kind
    try:
        return HTTPStatus(answer.status).name.lower()
    except ValueError:  # a package's, which HTTP does not know
        return _NO_REASON


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
