"""What every request passes: errors become problems, origins are checked, OPTIONS is answered."""

import logging
import re
from collections.abc import Collection, Iterable
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from aggregator.api.request.body import ENCODINGS
from aggregator.api.request.media_type import ACCEPTED
from aggregator.api.responses import problem_response
from aggregator.core.fault_log import Seldom, in_a_line, place_of, traceback_of
from aggregator.core.quoting import cut
from aggregator.errors import (
    AggregatorError,
    Forbidden,
    Gone,
    InsufficientScope,
    InvalidToken,
    NotAcceptable,
    NotFound,
    RateExceeded,
    StageFault,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unavailable,
    Unparsable,
    Unsupported,
    UnsupportedCoding,
)

log = logging.getLogger(__name__)

_CHALLENGE = 'Bearer realm="aggregator"'  # RFC 6750, 3
_STATUSES: tuple[tuple[type[AggregatorError], int, dict[str, str]], ...] = (
    (Unparsable, 400, {}),
    (InvalidToken, 401, {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}),
    (Unauthorized, 401, {"WWW-Authenticate": _CHALLENGE}),
    (InsufficientScope, 403, {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'}),
    (Forbidden, 403, {}),
    (NotFound, 404, {}),
    (NotAcceptable, 406, {"Vary": "Accept"}),
    (TooSlow, 408, {"Connection": "close"}),
    (Gone, 410, {}),
    (TooLarge, 413, {}),
    (UnsupportedCoding, 415, {"Accept-Encoding": ", ".join(ENCODINGS)}),
    (Unsupported, 415, {"Accept-Post": ACCEPTED}),
    (RateExceeded, 429, {}),
    (StageFault, 500, {}),
    (Unavailable, 503, {"Retry-After": "1"}),
)
_CAPITAL = re.compile("(?<!^)(?=[A-Z])")
_KEPT_HEADERS = ("Allow", "Location")
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_OWN_SITE = ("same-origin", "none")  # as browsers say, and pages cannot
_EXPOSED = "Link, ETag, Location, Retry-After, Preference-Applied"
_MAX_AGE = "600"  # seconds for which a browser need not ask again
_EVERYWHERE = ("DELETE", "GET", "HEAD", "POST")
_LONGEST = 500  # bytes

_seldom = Seldom()
"""Whoever finds a call that fails can make it as often as they like."""


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a problem, and OPTIONS on every path there is."""
    try:
        answer = await handler(request)
        if not isinstance(answer, web.StreamResponse):
            raise TypeError(f"answered with {answer!r}, which is no response")  # noqa: TRY301
    except AggregatorError as error:
        for kind, status, headers in _STATUSES:
            if isinstance(error, kind):
                pause = getattr(error, "retry_after", None)
                more = {} if pause is None else {"Retry-After": str(pause)}
                answer = problem_response(status, str(error), {**headers, **more})
                answer.kind = _CAPITAL.sub("_", type(error).__name__).lower()
                return answer
        return _unexpected(request, error)
    except web.HTTPException as error:
        return _refused(request, error)
    except Exception as error:  # noqa: BLE001, it is logged, and the publisher must be answered
        return _unexpected(request, error)
    else:
        return answer


def _refused(request: web.Request, error: web.HTTPException) -> web.Response:
    """The answer where aiohttp refuses; it knows nothing of OPTIONS."""
    is_asked = request.method == "OPTIONS"
    if isinstance(error, web.HTTPMethodNotAllowed):
        if is_asked:
            return _options_response(request, error.allowed_methods)
        error = web.HTTPMethodNotAllowed(request.method, {*error.allowed_methods, "OPTIONS"})
    elif isinstance(error, web.HTTPNotFound) and is_asked and request.raw_path == "*":
        return _options_response(request, _EVERYWHERE)
    kept = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
    return problem_response(error.status, _detail(error, request), kept)


def _detail(error: web.HTTPException, request: web.Request) -> str:
    if error.status == HTTPStatus.NOT_FOUND:
        if request.path == "/":
            return "There is nothing at /. What there is, /openapi.json tells, and /docs shows."
        return f"There is nothing at {cut(request.path)}. What there is, /openapi.json tells."
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return f"{cut(request.path)} answers {allowed}, and not {cut(request.method)}."
    return error.reason


def _unexpected(request: web.Request, error: Exception) -> web.Response:
    resource = request.match_info.route.resource
    subject = f"{resource.canonical if resource else ''} {place_of(error)}"
    if (more := _seldom.told(subject)) is not None:
        called = in_a_line(f"{request.method} {cut(request.path)}", _LONGEST)
        log.error("%s failed%s%s", called, more, traceback_of(error))
    return problem_response(500, "The service failed; its log says more.")


class Origins:
    """The origins whose pages may use the service; `*` lists all.

    A browser sends a page's simple requests without asking first, also where the page may not read
    the answer, so what changes something is refused to pages of other origins. A client that is no
    browser sends no `Origin`, and no page can make it send anything.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.lower() for origin in origins)
        self.are_all = "*" in self._origins

    def has(self, origin: str) -> bool:
        """Whether pages of that origin may use the service."""
        return self.are_all or origin.lower() in self._origins

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass on what changes nothing or may do so. Raises Forbidden."""
        if request.method in _CHANGING and not self._may_change(request):
            raise Forbidden(
                f"Pages of {cut(request.headers['Origin'])} may change nothing here: "
                "cors_origins does not list that origin. (Behind a proxy that changes Host it may "
                "have to list the service's own.)"
            )
        return await handler(request)

    def _may_change(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        return origin is None or self.has(origin) or _is_own(request, origin)


def _is_own(request: web.Request, origin: str) -> bool:
    """Whether the page is the service's own: what the browser says of that, if it does, counts."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return site in _OWN_SITE
    _, separator, authority = origin.partition("://")
    return bool(separator) and authority.lower() == request.headers.get("Host", "").lower()


class Cors:
    """Adds to every answer the headers that let pages of listed origins read it."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    async def add(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Add the headers, before those of the answer are sent."""
        if not self._origins.are_all:
            answer.headers["Vary"] = ", ".join(
                (*answer.headers.getall("Vary", []), "Origin"),
            )
        origin = request.headers.get("Origin")
        if origin is None or not self._origins.has(origin):
            return
        answer.headers["Access-Control-Allow-Origin"] = "*" if self._origins.are_all else origin
        answer.headers["Access-Control-Expose-Headers"] = _EXPOSED
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            _add_preflight(request, answer)


def _add_preflight(request: web.Request, answer: web.StreamResponse) -> None:
    """For the preflight request, which a browser sends before what a form could not send."""
    if "Allow" in answer.headers:
        answer.headers["Access-Control-Allow-Methods"] = answer.headers["Allow"]
    if asked := request.headers.get("Access-Control-Request-Headers"):
        answer.headers["Access-Control-Allow-Headers"] = asked
    answer.headers["Access-Control-Max-Age"] = _MAX_AGE


def _options_response(request: web.Request, methods: Collection[str]) -> web.Response:
    headers = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}
    if request.path == "/publish":
        headers["Accept-Post"] = ACCEPTED
    return web.Response(status=204, headers=headers)
