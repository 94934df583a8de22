"""The HTTP face: which call does what."""

import asyncio
import time
from dataclasses import dataclass, field

from aiohttp import web

from aggregator import answer, body, query
from aggregator.budget import Budget
from aggregator.errors import NotFound, StoreError
from aggregator.intake import Intake
from aggregator.key import key_of
from aggregator.sending import Sender
from aggregator.settings import Settings
from aggregator.store import Store

_SHOWN_TOPICS = 1000
_PAGES_AT_ONCE = 4


@dataclass(frozen=True)
class Face:
    """The handlers, and what they need."""

    settings: Settings
    intake: Intake
    store: Store
    budget: Budget
    verdicts: Sender
    pages: Sender
    started: float
    """When, by the monotonic clock."""
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PAGES_AT_ONCE))

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered."""
        return [
            web.post("/publish", self.publish),
            web.get("/events", self.events),
            web.get("/events/{topic:[^/]+}/{event_id:[^/]+}", self.event),
            web.get("/stats", self.stats),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
        ]

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Take events; answer when each is stored, or tell why it is not."""
        self.intake.check_ready()
        self.verdicts.check_room()
        is_ndjson = body.is_ndjson(request)
        with self.budget.share() as share:
            read = await body.read(
                request, share, self.settings.max_body, self.settings.body_timeout
            )
            verdict = answer.verdict(await self.intake.take(read, is_ndjson, share))
        return await self.verdicts.send(request, verdict)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A page of stored events."""
        wanted = query.parse(request.query)
        async with self.reading:
            self.pages.check_room()
            page = answer.page(await self.store.events(wanted))
        return await self.pages.send(request, page)

    async def event(self, request: web.Request) -> web.StreamResponse:
        """One stored event."""
        topic, event_id = request.match_info["topic"], request.match_info["event_id"]
        async with self.reading:
            self.pages.check_room()
            found = await self.store.find(key_of(topic, event_id))
        if found is None:
            raise NotFound(f"No event {event_id!r} is stored on the topic {topic!r}.")
        return await self.pages.send(request, answer.event(found))

    async def stats(self, request: web.Request) -> web.StreamResponse:
        """The numbers, which add up."""
        self.pages.check_room()
        topics = await self.store.topics(_SHOWN_TOPICS)
        uptime = time.monotonic() - self.started
        snapshot = self.intake.ledger.snapshot()
        return await self.pages.send(request, answer.stats(snapshot, topics, uptime))

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive."""
        return answer.as_json({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        """Able to store, or 503 with the reason."""
        self.intake.check_ready()
        if self.intake.worker.hangs:
            raise StoreError("The batch under way takes too long: the disk may hang.")
        return answer.as_json({"status": "ready"})
