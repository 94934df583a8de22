"""`GET /openapi.json`: what the API is, for programs."""

from collections.abc import Sequence

import msgspec
from aiohttp import web

from aggregator.config import Settings
from aggregator.description.document import describe
from aggregator.stage import Stage
from aggregator.web.sending import Sender
from aggregator.web.still import Still


class Serving:
    """The handler, and what it needs."""

    def __init__(self, stages: Sequence[Stage], settings: Settings, sender: Sender) -> None:
        self._stages = stages
        self._settings = settings
        self._sender = sender
        self._told: Still | None = None

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [web.get("/openapi.json", self.description)]

    async def description(self, request: web.Request) -> web.StreamResponse:
        """This description of the API."""
        self._sender.check_room()
        if self._told is None:  # made when it is first asked for: most services never are
            told = describe(request.app.router.routes(), self._stages, self._settings)
            self._told = Still(msgspec.json.encode(told), "application/json")
        return await self._sender.send(request, self._told.to(request))
