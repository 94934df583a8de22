"""A store in this process: the shortest way to keep the contract, and an example for authors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aggregator import timestamp
from aggregator.errors import KeyHeld, SettingError
from aggregator.event import Event
from aggregator.store import (
    PAGE_BYTES,
    Content,
    Counters,
    Holder,
    Page,
    Query,
    Sighting,
    Store,
    StoredEvent,
    StoreTransaction,
)

log = logging.getLogger(__name__)

_SCANNED = 20_000  # events that one page looks at


@dataclass
class Shelf:
    """What is kept. The store has one, and each transaction one of its own for what is new."""

    events: list[Event] = field(default_factory=list)  # in the order of seq, from 1
    seqs: dict[bytes, int] = field(default_factory=dict)  # by key
    sightings: list[Sighting] = field(default_factory=list)
    topics: set[str] = field(default_factory=set)
    counters: Counters = field(default_factory=Counters)

    def copy(self) -> "Shelf":
        """A shelf with the same things on it."""
        return replace(
            self,
            events=self.events.copy(),
            seqs=self.seqs.copy(),
            sightings=self.sightings.copy(),
            topics=self.topics.copy(),
        )

    def add(self, new: "Shelf") -> None:
        """Take over what is new; its counters are the later ones."""
        self.events += new.events
        self.seqs |= new.seqs
        self.sightings += new.sightings
        self.topics |= new.topics
        self.counters = new.counters


class MemoryTransaction(StoreTransaction):
    """Gathers what is new on a shelf of its own, so that nobody sees it before the commit."""

    def __init__(self, kept: Shelf) -> None:
        self._kept = kept
        self._new = Shelf(counters=kept.counters)

    async def claim(self, keys: Sequence[bytes]) -> list[Holder | None]:
        """The holder of each key."""
        return [self._holder(key) for key in keys]

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events."""
        contents: list[Content] = []
        size = 0
        for event in map(self._event, seqs):
            contents.append(Content(event.source, event.payload))
            size += len(event.payload)
            if size >= PAGE_BYTES:
                break
        return contents

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store the events under the next seqs."""
        keys = [event.key for event in events]
        if len(set(keys)) < len(keys) or any(self._holder(key) for key in keys):
            raise KeyHeld("an event was appended under a key that is held")
        first = len(self._kept.events) + len(self._new.events) + 1
        seqs = list(range(first, first + len(events)))
        self._new.events += events
        self._new.seqs.update(zip(keys, seqs, strict=True))
        return seqs

    async def record(self, sightings: Sequence[Sighting]) -> None:
        """Keep the sightings."""
        self._new.sightings += sightings

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
        """Add to the counters."""
        topics = {topic for topic, counts in by_topic.items() if counts.stored}
        self._new.topics |= topics - self._kept.topics
        before = self._new.counters
        self._new.counters = Counters(
            stored=before.stored + counted.stored,
            duplicate=before.duplicate + counted.duplicate,
            conflict=before.conflict + counted.conflict,
            invalid=before.invalid + counted.invalid,
            filtered=before.filtered + counted.filtered,
            refused=before.refused + counted.refused,
            topics=len(self._kept.topics) + len(self._new.topics),
        )
        return self._new.counters

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Put the shelf back as it was when the block raises."""
        before = self._new.copy()
        try:
            yield
        except BaseException:
            self._new = before
            raise

    def commit(self) -> None:
        """Put what is new where everybody sees it, in one step."""
        self._kept.add(self._new)

    def _holder(self, key: bytes) -> Holder | None:
        seq = self._kept.seqs.get(key) or self._new.seqs.get(key)
        if seq is None:
            return None
        event = self._event(seq)
        return Holder(seq, event.digest, event.received_at)

    def _event(self, seq: int) -> Event:
        place = seq - 1
        kept = len(self._kept.events)
        return self._kept.events[place] if place < kept else self._new.events[place - kept]


class MemoryStore(Store):
    """`memory:` keeps the contract in every point but one: it forgets when the process ends."""

    def __init__(self, url: str) -> None:
        if url != "memory:":
            raise SettingError(f"store: {url!r} should be 'memory:', which takes nothing more")
        super().__init__(url)
        self._kept = Shelf()
        self._turn = asyncio.Lock()

    async def open(self, recipe: str) -> None:  # noqa: ARG002, no key here is older than that
        """Say that nothing lasts."""
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
        newest = len(self._kept.events)
        if query.descending:
            before = newest + 1 if query.after is None else min(query.after, newest + 1)
            seqs = range(before - 1, 0, -1)
        else:
            seqs = range((query.after or 0) + 1, newest + 1)
        page: list[StoredEvent] = []
        size = 0
        for seq in seqs[:_SCANNED]:
            event = self._kept.events[seq - 1]
            if _matches(query, event):
                if len(page) == query.limit or size >= PAGE_BYTES:
                    return Page(page, page[-1].seq)
                page.append(self._read(seq))
                size += len(event.payload)
        return Page(page, seqs[_SCANNED - 1] if len(seqs) > _SCANNED else None)

    async def find(self, key: bytes) -> StoredEvent | None:
        """The event that holds the key."""
        seq = self._kept.seqs.get(key)
        return self._read(seq) if seq else None

    async def counters(self) -> Counters:
        """The counters."""
        return self._kept.counters

    async def topics(self, limit: int) -> list[str]:
        """The names of topics."""
        return sorted(self._kept.topics)[:limit]

    def _read(self, seq: int) -> StoredEvent:
        event = self._kept.events[seq - 1]
        return StoredEvent(
            seq,
            event.received_at,
            event.topic,
            event.event_id,
            event.timestamp,
            event.source,
            event.payload,
            event.key,
            event.digest,
        )


def _matches(query: Query, event: Event) -> bool:
    return (
        query.topic in (None, event.topic)
        and query.source in (None, event.source)
        and ((query.since is None and query.until is None) or _is_within(query, event.timestamp))
    )


def _is_within(query: Query, text: str) -> bool:
    time = timestamp.moment(text)
    if time is None:
        return False
    return (query.since is None or query.since <= time) and (
        query.until is None or time < query.until
    )
