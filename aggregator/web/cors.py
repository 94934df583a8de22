"""Lets pages of other origins use the service, where the operator has said so."""

from aiohttp import web

from aggregator.web.origins import Origins

_EXPOSED = "Link, ETag, Location, Retry-After, Preference-Applied"
_MAX_AGE = "600"  # seconds for which a browser need not ask again


class Cors:
    """Adds to every answer what the browser of a listed origin waits for."""

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
            _allow(request, answer)


def _allow(request: web.Request, answer: web.StreamResponse) -> None:
    """What the browser asks before it sends what a form could not."""
    if "Allow" in answer.headers:
        answer.headers["Access-Control-Allow-Methods"] = answer.headers["Allow"]
    if asked := request.headers.get("Access-Control-Request-Headers"):
        answer.headers["Access-Control-Allow-Headers"] = asked
    answer.headers["Access-Control-Max-Age"] = _MAX_AGE
