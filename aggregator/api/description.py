"""`GET /openapi.json`: answers with the description of the API."""

from collections.abc import Sequence

import msgspec
from aiohttp import web

from aggregator.api.responses import JSON
from aggregator.api.sending import Sender
from aggregator.config import Settings
from aggregator.route import Route, StaticResponse
from aggregator.stage import Stage

ROUTES = web.AppKey("ROUTES", list[Route])
"""The routes that are described: those that are there."""


class OpenApiHandler:
    """Answers `GET /openapi.json`."""

    def __init__(self, stages: Sequence[Stage], settings: Settings, sender: Sender) -> None:
        self._stages = stages
        self._settings = settings
        self._sender = sender
        self._made: StaticResponse | None = None

    async def description(self, request: web.Request) -> web.StreamResponse:
        """This description of the API."""
        self._sender.check_room(request)
        if self._made is None:  # made when it is first asked for: most services never are
            routes = request.app[ROUTES]
            body = description_of(routes, self._stages, self._settings)
            self._made = StaticResponse(body, JSON)
        return await self._sender.send(request, self._made.respond(request))


def description_of(routes: Sequence[Route], stages: Sequence[Stage], settings: Settings) -> bytes:
    """The description of these routes, in JSON; whatever cannot be described raises."""
    # Importing apispec would take a twentieth of every start.
    from aggregator.api.openapi import describe  # noqa: PLC0415

    return msgspec.json.encode(describe(routes, stages, settings))
