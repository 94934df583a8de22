"""How the service is: its numbers, and whether it is alive and can store."""

import time
from dataclasses import dataclass

from aiohttp import web

from aggregator.errors import StoreError
from aggregator.pipeline.intake import Intake
from aggregator.store import Store
from aggregator.web import answer
from aggregator.web.sending import Sender

_SHOWN_TOPICS = 1000


@dataclass(frozen=True)
class State:
    """The handlers, and what they need."""

    intake: Intake
    store: Store
    sender: Sender
    started: float
    """When, by the monotonic clock."""

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
        return [
            web.get("/stats", self.stats),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
        ]

    async def stats(self, request: web.Request) -> web.StreamResponse:
        """The numbers, which add up."""
        self.sender.check_room()
        topics = [topic.name for topic in await self.store.topics("", _SHOWN_TOPICS)]
        uptime = time.monotonic() - self.started
        snapshot = self.intake.pending.snapshot()
        return await self.sender.send(request, answer.stats(snapshot, topics, uptime))

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive."""
        return answer.state({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        """Able to store, or 503 with the reason."""
        self.intake.check_ready()
        if self.intake.worker.hangs:
            raise StoreError("The batch under way takes too long: the disk may hang.")
        return answer.state({"status": "ready"})
