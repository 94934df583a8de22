"""Answers OPTIONS: which methods a path has."""

from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Handler

from aggregator.api.request.media_type import ACCEPTED

_EVERYWHERE = ("DELETE", "GET", "HEAD", "POST")


@web.middleware
async def with_options(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer OPTIONS on every path there is, and name it among the methods allowed."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as refused:
        if request.method == "OPTIONS":
            return _allowing(request, refused.allowed_methods)
        raise web.HTTPMethodNotAllowed(
            request.method, {*refused.allowed_methods, "OPTIONS"}
        ) from refused
    except web.HTTPNotFound:
        if request.method == "OPTIONS" and request.raw_path == "*":
            return _allowing(request, _EVERYWHERE)
        raise


def _allowing(request: web.Request, methods: Collection[str]) -> web.Response:
    headers = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}
    if request.path == "/publish":
        headers["Accept-Post"] = ACCEPTED
    return web.Response(status=204, headers=headers)
