"""Reads stored events: pages of them, all of them, and one by its topic and id."""

from dataclasses import dataclass

from aiohttp import web

from aggregator.api.request.media_type import NDJSON
from aggregator.web import accept, answer, finding
from aggregator.web.arguments import load
from aggregator.web.export import Export
from aggregator.web.query import PageSchema, PickSchema
from aggregator.web.sending import Sender
from aggregator.web.turn import Turn

_PAGES = (answer.JSON, *NDJSON, answer.CLOUD_EVENTS)
_EVENTS = (answer.JSON, answer.CLOUD_EVENT)


@dataclass(frozen=True)
class Reading:
    """The handlers, and what they need."""

    turn: Turn
    sender: Sender
    export: Export

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [
            web.get("/events", self.events),
            web.get("/events/{topic:[^/]+}/{event_id:[^/]+}", self.event),
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A page of stored events, or all of them where NDJSON is asked for."""
        form = accept.chosen(request, _PAGES)
        if form in NDJSON:
            return await self.export.send(request, form)
        wanted = load(PageSchema(), request.query)
        async with self.turn.taken() as store:
            page = answer.page(await store.events(wanted), form, request)
        return await self.sender.send(request, page)

    async def event(self, request: web.Request) -> web.StreamResponse:
        """One stored event, or the choice between several."""
        form = accept.chosen(request, _EVENTS)
        pick = load(PickSchema(), request.query)
        async with self.turn.taken() as store:
            found = await finding.find(store, **request.match_info, pick=pick)
            told = (
                answer.choices(found)
                if len(found.events) > 1
                else answer.event(found.events[0], form, request)
            )
        return await self.sender.send(request, told)
