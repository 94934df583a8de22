"""The writing side: gathers what is new apart, so that nobody sees it before the commit."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from msgspec import structs

from aggregator.errors import KeyHeld
from aggregator.event import Event
from aggregator.store import (
    PAGE_BYTES,
    Content,
    Counters,
    KeyOwner,
    Quarantined,
    Redelivery,
    StoreTransaction,
)
from aggregator_memory.shelf import New, Shelf


class MemoryTransaction(StoreTransaction):
    """One at a time, so it knows that nobody changes the shelf meanwhile."""

    def __init__(self, kept: Shelf) -> None:
        self._kept = kept
        self._new = New(kept.counters, kept.quarantine)

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        """The holder of each key."""
        return [self._owner(key) for key in keys]

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events."""
        contents: list[Content] = []
        size = 0
        for event in map(self._event, seqs):
            contents.append(Content(event.source, event.payload, event.payload_kind))
            size += len(event.payload)
            if size >= PAGE_BYTES:
                break
        return contents

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store the events under the next seqs."""
        keys = [event.key for event in events]
        if len(set(keys)) < len(keys) or any(self._owner(key) for key in keys):
            raise KeyHeld("an event was appended under a key that is held")
        first = len(self._kept.events) + len(self._new.events) + 1
        seqs = list(range(first, first + len(events)))
        self._new.events += events
        self._new.seqs.update(zip(keys, seqs, strict=True))
        return seqs

    async def record(self, redeliveries: Sequence[Redelivery]) -> None:
        """Keep the sightings."""
        self._new.redeliveries += redeliveries

    async def quarantine(self, entries: Sequence[Quarantined]) -> None:
        """Put these into quarantine."""
        self._new.quarantine = self._new.quarantine.taking(entries)

    async def drop(self, ids: Sequence[int]) -> None:
        """Take these out."""
        self._new.quarantine = self._new.quarantine.dropping(ids)

    async def evict(self, before: int, most: int) -> int:
        """Take out what is too old, then the oldest of what is too much."""
        had = self._new.quarantine.evicted
        self._new.quarantine = self._new.quarantine.evicting(before, most)
        return self._new.quarantine.evicted - had

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        """Add to the counters."""
        appended = {event.topic for event in self._new.events}
        known = [topic for topic in by_topic if topic in appended or topic in self._kept.ends]
        self._new.count(counted, {topic: by_topic[topic] for topic in known})
        self._new.counters = structs.replace(
            self._new.counters,
            topics=self._kept.counters.topics + sum(map(self._is_new, self._new.topics)),
            quarantined=len(self._new.quarantine.entries),
            evicted=self._new.quarantine.evicted,
        )

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Put everything back as it was when the block raises."""
        before = self._new.copy()
        try:
            yield
        except BaseException:
            self._new = before
            raise

    def commit(self) -> None:
        """Put what is new where everybody sees it, in one step."""
        self._kept.add(self._new)
        self.counters = self._kept.counters

    def _owner(self, key: bytes) -> KeyOwner | None:
        seq = self._kept.seqs.get(key) or self._new.seqs.get(key)
        if seq is None:
            return None
        event = self._event(seq)
        return KeyOwner(seq, event.digest, event.received_at)

    def _is_new(self, topic: str) -> bool:
        before = self._kept.topics.get(topic, Counters())
        return before.stored == 0 < self._new.topics[topic].stored

    def _event(self, seq: int) -> Event:
        place = seq - 1
        kept = len(self._kept.events)
        return self._kept.events[place] if place < kept else self._new.events[place - kept]
