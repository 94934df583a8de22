"""A store in memory: the shortest implementation of the contract, and an example for authors."""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

from msgspec import structs

from aggregator.core import timestamp
from aggregator.errors import KeyHeld, KeySpecDiffers, SettingError
from aggregator.event import Event
from aggregator.store import (
    CONTENTS_BYTES,
    MOST_CONFLICTS,
    PAGE_BYTES,
    ConflictingContent,
    ConflictStats,
    Content,
    Counters,
    History,
    HistoryTransaction,
    IndexesFields,
    KeepsHistory,
    KeepsQuarantine,
    KeyOwner,
    Measured,
    MeasuresItself,
    NewestSeq,
    Page,
    Quarantined,
    QuarantinePage,
    QuarantineQuery,
    QuarantineTransaction,
    Query,
    Redelivery,
    RedeliveryStats,
    Span,
    StoredEvent,
    Topic,
)
from aggregator_memory.quarantine import Quarantine

log = logging.getLogger(__name__)

_SCANNED = 20_000  # events that one page examines at most


class MemoryStore(KeepsHistory, KeepsQuarantine, IndexesFields, MeasuresItself):
    """`memory:` keeps the contract but for two points: nothing is durable, no field is indexed."""

    def __init__(self, url: str) -> None:
        if url != "memory:":
            raise SettingError(f"store: {url!r} should be 'memory:', which takes nothing more")
        super().__init__(url)
        self._key_spec: str | None = None
        self._pointers: dict[str, None] = {}
        self._committed = Committed()
        self._transaction_lock = asyncio.Lock()
        self._newest = NewestSeq()

    async def key_spec(self) -> str | None:
        """A new process has a new, empty store."""
        return None

    async def open(self, key_spec: str, replaces: str | None = None) -> None:
        """Keep the key spec; warn that nothing is durable."""
        if self._key_spec not in (None, key_spec, replaces):
            raise KeySpecDiffers(str(self._key_spec), key_spec)
        self._key_spec = key_spec
        log.warning("the store memory: forgets every event when the service ends")

    async def index(self, pointers: Sequence[str]) -> None:
        """Remember what was asked for: a scan of what fits in memory is short."""
        self._pointers |= dict.fromkeys(pointers)

    async def indexed(self) -> list[str]:
        """What was asked for."""
        return list(self._pointers)

    async def drop_index(self, pointers: Sequence[str]) -> None:
        """Forget that it was asked for."""
        for pointer in pointers:
            self._pointers.pop(pointer, None)

    def measure(self) -> Measured:
        """It has no files."""
        return Measured(self._newest.seq, {})

    async def changed(self, after: int) -> int:
        """Only this process stores events here."""
        return await self._newest.wait(after)

    async def reopen(self) -> None:
        """There is no file that could have failed."""

    async def close(self) -> None:
        """There is nothing to close."""

    def about(self) -> str:
        """For the operator."""
        return "memory: (forgets every event when the service ends)"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["MemoryTransaction"]:
        """One at a time. Where the block raises, what it has gathered is dropped."""
        async with self._transaction_lock:
            tx = MemoryTransaction(self._committed)
            yield tx
            tx.commit()
        self._newest.advance(len(self._committed.events))

    async def events(self, query: Query) -> Page:
        """One page of events."""
        found: list[StoredEvent] = []
        size = looked_into = 0
        seqs = _range(query, self._committed.arrived(query.received_since, query.received_until))
        for place, seq in enumerate(seqs):
            event = self._committed.events[seq - 1]
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
        """The first events with that key or name."""
        seqs = set(self._committed.names.get(name, ()))
        if name in self._committed.seqs:
            seqs.add(self._committed.seqs[name])
        events = (self._read(seq) for seq in sorted(seqs))
        return list(islice((one for one in events if source in (None, one.source)), limit))

    async def history(self, seq: int, limit: int) -> History:
        """What came again under its key."""
        return self._committed.histories.get(seq, EventHistory()).history(limit)

    async def span(self) -> Span:
        """Every event that was stored."""
        newest = len(self._committed.events)
        return Span(min(1, newest), newest)

    async def counters(self) -> Counters:
        """The counters."""
        quarantine = self._committed.quarantine
        return structs.replace(
            self._committed.counters,
            quarantined=len(quarantine.entries),
            evicted=quarantine.evicted,
        )

    async def topics(self, after: str, limit: int) -> list[Topic]:
        """Topics by name."""
        stored = (name for name, counts in self._committed.topics.items() if counts.stored)
        names = sorted(name for name in stored if name > after)
        return [self._topic(name) for name in names[:limit]]

    async def quarantined(self, query: QuarantineQuery) -> QuarantinePage:
        """One page of what is in quarantine."""
        return self._committed.quarantine.page(query)

    def _topic(self, name: str) -> Topic:
        counts = self._committed.topics[name]
        first, last = self._committed.bounds[name]
        return Topic(
            name,
            counts.stored,
            counts.duplicate,
            counts.conflict,
            first,
            self._committed.events[first - 1].received_at,
            last,
            self._committed.events[last - 1].received_at,
        )

    def _read(self, seq: int) -> StoredEvent:
        event = self._committed.events[seq - 1]
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


class MemoryTransaction(HistoryTransaction, QuarantineTransaction):
    """Gathers changes apart, so that nobody sees them before the commit.

    Only one runs at a time: what is committed does not change meanwhile.
    """

    def __init__(self, committed: "Committed") -> None:
        self._committed = committed
        self._uncommitted = Uncommitted(committed.counters, committed.quarantine)

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        """The event that holds each key, committed or appended here."""
        return [self._owner(key) for key in keys]

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events."""
        contents: list[Content] = []
        size = 0
        for event in map(self._event, seqs):
            contents.append(Content(event.source, event.payload, event.payload_kind))
            size += len(event.payload)
            if size >= CONTENTS_BYTES:
                break
        return contents

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store the events under the next seqs."""
        keys = [event.key for event in events]
        if len(set(keys)) < len(keys) or any(self._owner(key) for key in keys):
            raise KeyHeld("an event was appended under a key that is held")
        first = len(self._committed.events) + len(self._uncommitted.events) + 1
        seqs = list(range(first, first + len(events)))
        self._uncommitted.events += events
        self._uncommitted.seqs.update(zip(keys, seqs, strict=True))
        return seqs

    async def record(self, redeliveries: Sequence[Redelivery]) -> None:
        """Keep what came again."""
        self._uncommitted.redeliveries += redeliveries

    async def quarantine(self, entries: Sequence[Quarantined]) -> None:
        """Add these to quarantine."""
        self._uncommitted.quarantine = self._uncommitted.quarantine.taking(entries)

    async def drop(self, ids: Sequence[int]) -> None:
        """Remove these from quarantine."""
        self._uncommitted.quarantine = self._uncommitted.quarantine.dropping(ids)

    async def evict(self, before: int, most: int) -> int:
        """Remove what is too old, then the oldest beyond `most` bytes."""
        had = self._uncommitted.quarantine.evicted
        self._uncommitted.quarantine = self._uncommitted.quarantine.evicting(before, most)
        return self._uncommitted.quarantine.evicted - had

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        """Add to the counters."""
        appended = {event.topic for event in self._uncommitted.events}
        known = appended | self._committed.bounds.keys()  # events were stored on them
        on_known = {topic: counts for topic, counts in by_topic.items() if topic in known}
        self._uncommitted.count(counted, on_known)
        self._uncommitted.counters = structs.replace(
            self._uncommitted.counters,
            topics=self._committed.counters.topics
            + sum(map(self._is_new, self._uncommitted.topics)),
            quarantined=len(self._uncommitted.quarantine.entries),
            evicted=self._uncommitted.quarantine.evicted,
        )

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Restore the state from before the block when it raises."""
        before = self._uncommitted.copy()
        try:
            yield
        except BaseException:
            self._uncommitted = before
            raise

    def commit(self) -> None:
        """Make the changes visible, all at once."""
        self._committed.add(self._uncommitted)
        self.counters = self._committed.counters

    def _owner(self, key: bytes) -> KeyOwner | None:
        seq = self._committed.seqs.get(key) or self._uncommitted.seqs.get(key)
        if seq is None:
            return None
        event = self._event(seq)
        return KeyOwner(seq, event.digest, event.received_at)

    def _is_new(self, topic: str) -> bool:
        before = self._committed.topics.get(topic, Counters())
        return before.stored == 0 < self._uncommitted.topics[topic].stored

    def _event(self, seq: int) -> Event:
        place = seq - 1
        committed = self._committed.events
        if place < len(committed):
            return committed[place]
        return self._uncommitted.events[place - len(committed)]


@dataclass
class Uncommitted:
    """What one transaction has done so far."""

    counters: Counters
    quarantine: Quarantine
    events: list[Event] = field(default_factory=list)
    seqs: dict[bytes, int] = field(default_factory=dict)  # by key
    redeliveries: list[Redelivery] = field(default_factory=list)
    topics: dict[str, Counters] = field(default_factory=dict)  # what is added to them

    def copy(self) -> "Uncommitted":
        """A copy that later changes of this one leave as it is."""
        return replace(
            self,
            events=self.events.copy(),
            seqs=self.seqs.copy(),
            redeliveries=self.redeliveries.copy(),
            topics=self.topics.copy(),
        )

    def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        """Add to the counters."""
        self.counters = _plus(self.counters, counted)
        for topic, counts in by_topic.items():
            self.topics[topic] = _plus(self.topics.get(topic, Counters()), counts)


@dataclass
class Committed:
    """What is committed."""

    events: list[Event] = field(default_factory=list)  # in the order of seq, from 1
    seqs: dict[bytes, int] = field(default_factory=dict)  # by key
    names: dict[bytes, list[int]] = field(default_factory=dict)
    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)  # first, last seq by topic
    histories: "dict[int, EventHistory]" = field(default_factory=dict)  # by seq
    topics: dict[str, Counters] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    quarantine: Quarantine = field(default_factory=Quarantine)
    newest: list[int] = field(default_factory=list)  # by seq: the newest arrival up to there
    behind: int = 0  # how far any event came behind that

    def arrived(self, since: int | None, until: int | None) -> range:
        """The seqs among which all events are that came since then and before that.

        Arrivals grow with seq but for slow bodies and a clock that is set back; `newest` does.
        """
        first = 0 if since is None else bisect_left(self.newest, since)
        end = len(self.events) if until is None else bisect_left(self.newest, until + self.behind)
        return range(first + 1, end + 1)

    def add(self, new: Uncommitted) -> None:
        """Apply what a transaction has done."""
        for seq, event in enumerate(new.events, len(self.events) + 1):
            self._index(seq, event)
        self.events += new.events
        self.seqs |= new.seqs
        for redelivery in new.redeliveries:
            self.histories.setdefault(redelivery.seq, EventHistory()).add(redelivery)
        for topic, counts in new.topics.items():
            self.topics[topic] = _plus(self.topics.get(topic, Counters()), counts)
        self.counters = new.counters
        self.quarantine = new.quarantine

    def _index(self, seq: int, event: Event) -> None:
        first, _ = self.bounds.get(event.topic, (seq, seq))
        self.bounds[event.topic] = (first, seq)
        self.newest.append(max([event.received_at, *self.newest[-1:]]))
        self.behind = max(self.behind, self.newest[-1] - event.received_at)
        if event.name:
            self.names.setdefault(event.name, []).append(seq)


@dataclass
class EventHistory:
    """What came again under one key: counts by source, and differing contents by digest."""

    redeliveries: dict[str, RedeliveryStats] = field(default_factory=dict)
    conflicts: dict[bytes, ConflictStats] = field(default_factory=dict)

    def add(self, seen: Redelivery) -> None:
        """Add one that came again."""
        self._count(seen)
        if seen.conflicting:
            self._remember(seen.conflicting, seen)

    def history(self, limit: int) -> History:
        """The earliest entries of both."""
        redeliveries = sorted(
            self.redeliveries.values(), key=lambda one: (one.first_at, one.source)
        )
        conflicts = sorted(self.conflicts.values(), key=lambda one: (one.first_at, one.digest))
        return History(redeliveries[:limit], conflicts[:limit])

    def _count(self, seen: Redelivery) -> None:
        before = self.redeliveries.get(seen.source)
        self.redeliveries[seen.source] = RedeliveryStats(
            source=seen.source,
            duplicates=(before.duplicates if before else 0) + (seen.conflicting is None),
            conflicts=(before.conflicts if before else 0) + (seen.conflicting is not None),
            first_at=min(before.first_at, seen.seen_at) if before else seen.seen_at,
            last_at=max(before.last_at, seen.seen_at) if before else seen.seen_at,
        )

    def _remember(self, conflict: ConflictingContent, seen: Redelivery) -> None:
        before = self.conflicts.get(conflict.digest)
        if before is None and len(self.conflicts) == MOST_CONFLICTS:
            return
        self.conflicts[conflict.digest] = ConflictStats(
            digest=conflict.digest,
            differences=before.differences if before else conflict.differences,
            source=before.source if before else seen.source,
            times=(before.times if before else 0) + 1,
            first_at=min(before.first_at, seen.seen_at) if before else seen.seen_at,
            last_at=max(before.last_at, seen.seen_at) if before else seen.seen_at,
        )


def _range(query: Query, among: range) -> range:
    if query.descending:
        before = among.stop if query.after is None else min(query.after, among.stop)
        return range(before - 1, among.start - 1, -1)
    return range(max((query.after or 0) + 1, among.start), among.stop)


def _matches(query: Query, event: Event) -> bool:
    """Whether the event matches, its payload aside."""
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


def _plus(one: Counters, other: Counters) -> Counters:
    """The sum of the two."""
    pairs = zip(structs.astuple(one), structs.astuple(other), strict=True)
    return Counters(*(first + second for first, second in pairs))
