"""Errors as RFC 9457 problem details: the one place that knows which error is which status."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from aggregator.api.request.body import ENCODINGS
from aggregator.api.request.media_type import ACCEPTED
from aggregator.errors import (
    AggregatorError,
    Forbidden,
    Gone,
    NotAcceptable,
    NotFound,
    StageFault,
    TooLarge,
    TooSlow,
    Unavailable,
    Unparsable,
    Unsupported,
    UnsupportedCoding,
)

PROBLEM = "application/problem+json"
"""The media type of all of them."""

log = logging.getLogger(__name__)

_STATUSES: tuple[tuple[type[AggregatorError], int, dict[str, str]], ...] = (
    (Unparsable, 400, {}),
    (Forbidden, 403, {}),
    (NotFound, 404, {}),
    (NotAcceptable, 406, {"Vary": "Accept"}),
    (TooSlow, 408, {"Connection": "close"}),
    (Gone, 410, {}),
    (TooLarge, 413, {}),
    (UnsupportedCoding, 415, {"Accept-Encoding": ", ".join(ENCODINGS)}),
    (Unsupported, 415, {"Accept-Post": ACCEPTED}),
    (StageFault, 500, {}),
    (Unavailable, 503, {"Retry-After": "1"}),
)
_KEPT = ("Allow", "Location")
_RENAMED = {413: "Content Too Large", 422: "Unprocessable Content"}  # Python before 3.13 has others


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> web.Response:
    """A problem; `members` are added to it."""
    told = {
        "title": _RENAMED.get(status, HTTPStatus(status).phrase),
        "status": status,
        "detail": detail.encode(errors="backslashreplace").decode(),  # it may quote a header
    }
    told.update(members or {})
    return web.Response(
        body=msgspec.json.encode(told),
        status=status,
        headers=headers,
        content_type=PROBLEM,
    )


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a problem."""
    try:
        return await handler(request)
    except AggregatorError as error:
        for kind, status, headers in _STATUSES:
            if isinstance(error, kind):
                return problem(status, str(error), headers)
        return _unexpected(request)
    except web.HTTPException as error:
        kept = {name: error.headers[name] for name in _KEPT if name in error.headers}
        return problem(error.status, _told(error, request), kept)
    except Exception:  # noqa: BLE001, it is logged, and the publisher must be answered
        return _unexpected(request)


def _told(error: web.HTTPException, request: web.Request) -> str:
    if error.status == HTTPStatus.NOT_FOUND:
        if request.path == "/":
            return "There is nothing at /. What there is, /openapi.json tells, and /docs shows."
        return f"There is nothing at {request.path}."
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{request.path} does not answer {request.method}."
    return error.reason


def _unexpected(request: web.Request) -> web.Response:
    log.exception("%s %s failed", request.method, request.path)
    return problem(500, "The service failed; its log says more.")
