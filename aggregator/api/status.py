"""How the service is: its numbers, and whether it is alive and can store."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from aggregator.access import Access, access_of
from aggregator.api.permitted import permitted_topics
from aggregator.api.responses import Answer, Count, json_response
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.core.budget import Budget
from aggregator.core.fault_log import Seldom, traceback_of
from aggregator.core.metrics import Gauges
from aggregator.errors import StoreError
from aggregator.pipeline.intake import Intake
from aggregator.pipeline.pending import PendingSubmissions, Snapshot, Statistics
from aggregator.store import OUTCOMES, Measured, MeasuresItself, Store

log = logging.getLogger(__name__)

_seldom = Seldom()
_MOST_TOPICS = 1000
_NO_STORE = {"Cache-Control": "no-store"}  # true for this moment only


class Stats(Answer, kw_only=True):
    """The numbers of one moment.

    A token that is for some topics only is told those that are counted by topic.
    """

    received_total: Annotated[
        Count | UnsetType, Meta(description="All events, whatever became of them.")
    ] = UNSET
    unique_processed: Annotated[Count, Meta(description="Stored.")]
    duplicate_dropped: Annotated[Count, Meta(description="Duplicates, and conflicts too.")]
    conflicts: Annotated[Count, Meta(description="Conflicts.")]
    invalid: Annotated[Count | UnsetType, Meta(description="Refused as invalid.")] = UNSET
    filtered: Annotated[Count | UnsetType, Meta(description="Kept out by a stage on purpose.")] = (
        UNSET
    )
    refused: Annotated[
        Count | UnsetType,
        Meta(description="Good, but refused with their strict request, or to their publisher."),
    ] = UNSET
    failed_async: Annotated[
        Count | UnsetType, Meta(description="Failed after their publisher was answered 202.")
    ] = UNSET
    quarantined: Annotated[Count | UnsetType, Meta(description="In quarantine now.")] = UNSET
    quarantine_evicted: Annotated[
        Count | UnsetType,
        Meta(description="Gone from quarantine because it was full or they were too old."),
    ] = UNSET
    queue_size_current: Annotated[
        Count | UnsetType, Meta(description="Accepted, and not committed yet.")
    ] = UNSET
    processed_topics: Annotated[
        list[str], Meta(description="Topics with stored events; the first 1,000 by name.")
    ]
    processed_topics_total: Annotated[Count, Meta(description="How many topics there are.")]
    uptime_seconds: Annotated[float, Meta(description="Since the start.")]


class Status(Answer, kw_only=True):
    """How the service is."""

    status: Annotated[str, Meta(description="In a word.")]


@dataclass(frozen=True)
class StatusHandlers:
    """Answers `/stats`, `/healthz` and `/readyz`."""

    intake: Intake
    statistics: Statistics
    store: Store
    limiter: ReadLimiter
    sender: Sender
    started: float
    """When, by the monotonic clock."""

    async def stats(self, request: web.Request) -> web.StreamResponse:
        """The numbers, which add up."""
        access = access_of(request)
        if not access.is_of_all_topics:
            told = json_response(await self._of_topics(request, access), headers=_NO_STORE)
            return await self.sender.send(request, told)
        async with self.limiter.acquire(request) as store:
            topics = [topic.name for topic in await store.topics("", _MOST_TOPICS)]
        uptime = time.monotonic() - self.started
        stats = _stats(await self.statistics.snapshot(), topics, uptime)
        return await self.sender.send(request, json_response(stats, headers=_NO_STORE))

    async def _of_topics(self, request: web.Request, access: Access) -> Stats:
        found = [topic async for topic in permitted_topics(self.limiter, request, access)]
        conflicts = sum(topic.conflict for topic in found)
        return Stats(
            unique_processed=sum(topic.stored for topic in found),
            duplicate_dropped=sum(topic.duplicate for topic in found) + conflicts,
            conflicts=conflicts,
            processed_topics=[topic.name for topic in found[:_MOST_TOPICS]],
            processed_topics_total=len(found),
            uptime_seconds=round(time.monotonic() - self.started, 3),
        )

    async def healthz(self, _: web.Request) -> web.Response:
        """Alive."""
        return alive()

    async def readyz(self, _: web.Request) -> web.Response:
        """Able to store, or 503 with the reason; where it is to read only, able to read."""
        if self.intake.is_read_only and self.intake.is_open:
            await self.store.span()
            return json_response(Status(status="read-only"), headers=_NO_STORE)
        try:
            self.intake.check_storing()
        except StoreError as error:
            doing = f" ({self.store.doing})" if self.store.doing else ""
            raise StoreError(f"{error}{doing}") from error
        return json_response(Status(status="ready"), headers=_NO_STORE)


def gauges(
    intake: Intake, store: Store, pending: PendingSubmissions, budgets: Mapping[str, Budget]
) -> Gauges:
    """How things are now, without a word to the database."""
    counters = None if intake.is_read_only else pending.counters
    measured = _measured(store)
    return Gauges(
        is_ready=intake.is_ready,
        bounded={name: (budget.held, budget.most) for name, budget in budgets.items()},
        queue_oldest_seconds=pending.longest_wait,
        store=store.url.partition(":")[0],
        store_events={name: getattr(counters, name) for name in OUTCOMES} if counters else {},
        topics=counters.topics if counters else None,
        quarantined=counters.quarantined if counters else None,
        last_seq=measured.last_seq if measured and counters else None,
        store_bytes=measured.bytes_by_part if measured else {},
        disk_free=measured.disk_free if measured else None,
    )


def _measured(store: Store) -> Measured | None:
    """None where it cannot be told: a look at everything else must not fail for it."""
    if not isinstance(store, MeasuresItself):
        return None
    try:
        return store.measure()
    except Exception as error:  # noqa: BLE001, of a package's store
        if (more := _seldom.told("measure")) is not None:
            log.error("the store cannot tell its size%s%s", more, traceback_of(error))
        return None


def alive() -> web.Response:
    """The answer of `/healthz`, which is given before the service is ready too."""
    return json_response(Status(status="alive"), headers=_NO_STORE)


def _stats(snapshot: Snapshot, topics: list[str], uptime: float) -> Stats:
    """The numbers of one moment; those received are the sum of all others."""
    counters = snapshot.counters
    return Stats(
        received_total=counters.received + snapshot.queued,
        unique_processed=counters.stored,
        duplicate_dropped=counters.duplicate + counters.conflict,
        conflicts=counters.conflict,
        invalid=counters.invalid,
        filtered=counters.filtered,
        refused=counters.refused,
        failed_async=counters.failed_async,
        quarantined=counters.quarantined,
        quarantine_evicted=counters.evicted,
        queue_size_current=snapshot.queued,
        processed_topics=topics,
        processed_topics_total=counters.topics,
        uptime_seconds=round(uptime, 3),
    )
