"""The HTTP face: which call does what."""

import time
from dataclasses import dataclass

from aiohttp import web

from aggregator import answer, body, query
from aggregator.budget import Budget
from aggregator.errors import NotFound, StoreError
from aggregator.intake import Intake
from aggregator.key import key_of
from aggregator.settings import Settings
from aggregator.store import Store

_SHOWN_TOPICS = 1000


@dataclass(frozen=True)
class Face:
    """The handlers, and what they need."""

    settings: Settings
    intake: Intake
    store: Store
    budget: Budget
    started: float
    """When, by the monotonic clock."""

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

    async def publish(self, request: web.Request) -> web.Response:
        """Take events; answer when each is stored, or tell why it is not."""
        self.intake.check_ready()
        is_ndjson = body.is_ndjson(request)
        with self.budget.share() as share:
            read = await body.read(
                request, share, self.settings.max_body, self.settings.body_timeout
            )
            return answer.verdict(await self.intake.take(read, is_ndjson, share))

    async def events(self, request: web.Request) -> web.Response:
        """A page of stored events."""
        return answer.page(await self.store.events(query.parse(request.query)))

    async def event(self, request: web.Request) -> web.Response:
        """One stored event."""
        topic, event_id = request.match_info["topic"], request.match_info["event_id"]
        found = await self.store.find(key_of(topic, event_id))
        if found is None:
            raise NotFound(f"No event {event_id!r} is stored on the topic {topic!r}.")
        return answer.event(found)

    async def stats(self, _: web.Request) -> web.Response:
        """The numbers, which add up."""
        topics = await self.store.topics(_SHOWN_TOPICS)
        uptime = time.monotonic() - self.started
        return answer.stats(self.intake.ledger.snapshot(), topics, uptime)

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive."""
        return answer.as_json({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        """Able to store, or 503 with the reason."""
        self.intake.check_ready()
        if self.intake.worker.hangs:
            raise StoreError("The batch under way takes too long: the disk may hang.")
        return answer.as_json({"status": "ready"})
