"""Keeps pages of origins that are not listed from changing anything.

A browser sends a page's simple requests without asking first, also where the page may not read the
answer. A client that is no browser sends no Origin and is nobody's tool.
"""

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from aggregator.errors import Forbidden

_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_OWN_SITE = ("same-origin", "none")  # as browsers say, and pages cannot


class Origins:
    """The origins whose pages may use the service; `*` lists all."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.lower() for origin in origins)
        self.are_all = "*" in self._origins

    def has(self, origin: str) -> bool:
        """Whether pages of that origin may use the service."""
        return self.are_all or origin.lower() in self._origins

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what changes nothing, or may. Raises Forbidden."""
        if request.method in _CHANGING and not self._may_change(request):
            raise Forbidden(
                f"Pages of {request.headers['Origin']} may change nothing here: "
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
