"""A store in this process: the shortest way to keep the contract, and an example for authors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice

from msgspec import structs

from aggregator.core import timestamp
from aggregator.errors import KeySpecDiffers, SettingError
from aggregator.event import Event
from aggregator.store import (
    PAGE_BYTES,
    Counters,
    History,
    Page,
    QuarantinePage,
    QuarantineQuery,
    Query,
    Span,
    Store,
    StoredEvent,
    StoreTransaction,
    Topic,
)
from aggregator_memory.history import Seen
from aggregator_memory.shelf import Shelf
from aggregator_memory.transaction import MemoryTransaction

log = logging.getLogger(__name__)

_SCANNED = 20_000  # events that one page looks at


class MemoryStore(Store):
    """`memory:` keeps the contract but for two points: it forgets, and it scans for fields."""

    def __init__(self, url: str) -> None:
        if url != "memory:":
            raise SettingError(f"store: {url!r} should be 'memory:', which takes nothing more")
        super().__init__(url)
        self._key_spec: str | None = None
        self._kept = Shelf()
        self._turn = asyncio.Lock()

    async def key_spec(self) -> str | None:
        """Nothing here is older than this process."""
        return None

    async def open(
        self,
        key_spec: str,
        indexed: Sequence[str] = (),  # noqa: ARG002, a scan of what fits in memory is short
        replaces: str | None = None,
    ) -> None:
        """Say that nothing lasts."""
        if self._key_spec not in (None, key_spec, replaces):
            raise KeySpecDiffers(str(self._key_spec), key_spec)
        self._key_spec = key_spec
        log.warning("the store memory: forgets every event when the service ends")

    async def reopen(self) -> None:
        """Nothing can have been damaged."""

    async def close(self) -> None:
        """Nothing is open."""

    def about(self) -> str:
        """For the operator."""
        return "memory: (forgets every event when the service ends)"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        """One at a time."""
        async with self._turn:
            tx = MemoryTransaction(self._kept)
            yield tx
            tx.commit()

    async def events(self, query: Query) -> Page:
        """One page of events."""
        found: list[StoredEvent] = []
        size = looked_into = 0
        seqs = _range(query, len(self._kept.events))
        for place, seq in enumerate(seqs):
            event = self._kept.events[seq - 1]
            if place == _SCANNED or looked_into >= PAGE_BYTES:
                return Page(found, seqs[place - 1])
            if not _matches(query, event):
                continue
            looked_into += len(event.payload) if query.field else 0
            if query.field is None or query.field.is_in(event.payload, event.payload_kind):
                if len(found) == query.limit or size >= PAGE_BYTES:
                    return Page(found, found[-1].seq)
                found.append(self._read(seq))
                size += len(event.payload)
        return Page(found, None)

    async def find(self, name: bytes, limit: int, source: str | None = None) -> list[StoredEvent]:
        """The events of that key or name."""
        seqs = set(self._kept.names.get(name, ()))
        if name in self._kept.seqs:
            seqs.add(self._kept.seqs[name])
        meant = (seq for seq in sorted(seqs) if source in (None, self._kept.events[seq - 1].source))
        return [self._read(seq) for seq in islice(meant, limit)]

    async def history(self, seq: int, limit: int) -> History:
        """What came again under its key."""
        return self._kept.seen.get(seq, Seen()).history(limit)

    async def span(self) -> Span:
        """All that were ever stored."""
        newest = len(self._kept.events)
        return Span(min(1, newest), newest)

    async def counters(self) -> Counters:
        """The counters."""
        quarantine = self._kept.quarantine
        return structs.replace(
            self._kept.counters,
            quarantined=len(quarantine.entries),
            evicted=quarantine.evicted,
        )

    async def topics(self, after: str, limit: int) -> list[Topic]:
        """Topics by name."""
        stored = (name for name, counts in self._kept.topics.items() if counts.stored)
        names = sorted(name for name in stored if name > after)
        return [self._topic(name) for name in names[:limit]]

    async def quarantined(self, query: QuarantineQuery) -> QuarantinePage:
        """One page of what is in quarantine."""
        return self._kept.quarantine.page(query)

    def _topic(self, name: str) -> Topic:
        counts = self._kept.topics[name]
        first, last = self._kept.ends[name]
        return Topic(
            name,
            counts.stored,
            counts.duplicate,
            counts.conflict,
            first,
            self._kept.events[first - 1].received_at,
            last,
            self._kept.events[last - 1].received_at,
        )

    def _read(self, seq: int) -> StoredEvent:
        event = self._kept.events[seq - 1]
        return StoredEvent(
            seq,
            event.received_at,
            event.topic,
            event.event_id,
            event.timestamp or None,
            event.source,
            event.payload,
            event.key,
            event.digest,
            event.payload_kind,
            event.attributes,
        )


def _range(query: Query, newest: int) -> range:
    if query.descending:
        before = newest + 1 if query.after is None else min(query.after, newest + 1)
        return range(before - 1, 0, -1)
    return range((query.after or 0) + 1, newest + 1)


def _matches(query: Query, event: Event) -> bool:
    """Whether all but the field is as asked for."""
    return (
        query.topic in (None, event.topic)
        and query.source in (None, event.source)
        and _is_within(query.received_since, query.received_until, event.received_at)
        and (
            (query.since is None and query.until is None)
            or _is_within(query.since, query.until, timestamp.try_parse(event.timestamp))
        )
    )


def _is_within(since: int | None, until: int | None, time: int | None) -> bool:
    return time is not None and (since is None or since <= time) and (until is None or time < until)
