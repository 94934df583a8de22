"""How the service is: its numbers, and whether it is alive and can store."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from aggregator.api.responses import json_response
from aggregator.api.sending import Sender
from aggregator.errors import StoreError
from aggregator.pipeline.intake import Intake
from aggregator.pipeline.pending import Snapshot
from aggregator.store import Store

_MOST_TOPICS = 1000
_NO_STORE = {"Cache-Control": "no-store"}  # true for this moment only


@dataclass(frozen=True)
class StatusHandlers:
    """Answers `/stats`, `/healthz` and `/readyz`."""

    intake: Intake
    store: Store
    sender: Sender
    started: float
    """When, by the monotonic clock."""

    def routes(self) -> list[web.RouteDef]:
        """The routes of these handlers."""
        return [
            web.get("/stats", self.stats),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
        ]

    async def stats(self, request: web.Request) -> web.StreamResponse:
        """The numbers, which add up."""
        self.sender.check_room()
        topics = [topic.name for topic in await self.store.topics("", _MOST_TOPICS)]
        uptime = time.monotonic() - self.started
        stats = _stats(self.intake.ledger.snapshot(), topics, uptime)
        return await self.sender.send(request, json_response(stats, headers=_NO_STORE))

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive."""
        return json_response({"status": "alive"}, headers=_NO_STORE)

    async def readyz(self, _: web.Request) -> web.Response:
        """Able to store, or 503 with the reason."""
        self.intake.check_ready()
        if self.intake.worker.hangs:
            raise StoreError("The batch under way takes too long: the disk may hang.")
        return json_response({"status": "ready"}, headers=_NO_STORE)


def _stats(snapshot: Snapshot, topics: list[str], uptime: float) -> Mapping[str, Any]:
    """The numbers of one moment; those received are the sum of all others."""
    counters = snapshot.counters
    return {
        "received_total": counters.received + snapshot.queued,
        "unique_processed": counters.stored,
        "duplicate_dropped": counters.duplicate + counters.conflict,
        "conflicts": counters.conflict,
        "invalid": counters.invalid,
        "filtered": counters.filtered,
        "refused": counters.refused,
        "failed_async": counters.failed_async,
        "quarantined": counters.quarantined,
        "quarantine_evicted": counters.evicted,
        "queue_size_current": snapshot.queued,
        "processed_topics": topics,
        "processed_topics_total": counters.topics,
        "uptime_seconds": round(uptime, 3),
    }
