"""Reads stored events: pages of them, and one by its topic and id."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from aggregator import answer, query
from aggregator.errors import NotFound
from aggregator.key import key_of
from aggregator.sending import Sender
from aggregator.store import Store

_PAGES_AT_ONCE = 4


@dataclass(frozen=True)
class Reading:
    """The handlers, and what they need."""

    store: Store
    sender: Sender
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PAGES_AT_ONCE))

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [
            web.get("/events", self.events),
            web.get("/events/{topic:[^/]+}/{event_id:[^/]+}", self.event),
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A page of stored events."""
        wanted = query.parse(request.query)
        async with self.turn:
            self.sender.check_room()
            page = answer.page(await self.store.events(wanted))
        return await self.sender.send(request, page)

    async def event(self, request: web.Request) -> web.StreamResponse:
        """One stored event."""
        topic, event_id = request.match_info["topic"], request.match_info["event_id"]
        async with self.turn:
            self.sender.check_room()
            found = await self.store.find(key_of(topic, event_id), 1)
        if not found:
            raise NotFound(f"No event {event_id!r} is stored on the topic {topic!r}.")
        return await self.sender.send(request, answer.event(found[0]))
