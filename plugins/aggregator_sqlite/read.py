"""What is read outside of transactions: pages of events, single ones, counters, topics, history."""

import sqlite3
from collections.abc import Generator
from contextlib import closing
from heapq import merge
from typing import Any

import msgspec

from aggregator.store import (
    PAGE_BYTES,
    ConflictStats,
    Counters,
    History,
    Page,
    Query,
    RedeliveryStats,
    Span,
    StoredEvent,
    Topic,
)
from aggregator_sqlite import blocks, fields
from aggregator_sqlite.blocks import Block, Members, payload_kind_of
from aggregator_sqlite.key_index import KeyIndex

SCANNED = 20_000
READ_BYTES = 4 * PAGE_BYTES
_BEYOND_THE_NEWEST = 2**63 - 1
_SCANNED_SOURCES = (
    20_000  # sources; an event that came from more is told by the first of them in order
)
FORWARD = blocks.FIRSTS_SINCE
BACKWARD = "SELECT first_seq FROM blocks WHERE first_seq < :seq ORDER BY first_seq DESC"
FORWARD_ON_TOPIC = """
SELECT first_seq FROM blocks_by_topic
WHERE topic_id = :topic_id AND first_seq >= coalesce(
    (SELECT max(first_seq) FROM blocks_by_topic WHERE topic_id = :topic_id AND first_seq <= :seq), 0
)
ORDER BY first_seq
"""
BACKWARD_ON_TOPIC = """
SELECT first_seq FROM blocks_by_topic WHERE topic_id = :topic_id AND first_seq < :seq
ORDER BY first_seq DESC
"""
FORWARD_BY_FIELD = """
SELECT seq FROM fields WHERE pointer_id = :pointer_id AND value = :value AND seq > :seq
ORDER BY seq
"""
BACKWARD_BY_FIELD = """
SELECT seq FROM fields WHERE pointer_id = :pointer_id AND value = :value AND seq < :seq
ORDER BY seq DESC
"""
TOPIC_ID = "SELECT id FROM topics WHERE name = ?"
SEQS_OF_NAME = "SELECT CAST(seq AS INTEGER) FROM names WHERE name = ? ORDER BY seq"
SPAN = "SELECT (SELECT min(first_seq) FROM blocks), last_seq FROM counters"
COUNTERS = """
SELECT stored, duplicate, conflict, invalid, filtered, refused, failed_async, topics, quarantined,
    evicted
FROM counters
"""
TOPICS = """
SELECT name, stored, duplicate, conflict, first_seq, first_at, last_seq, last_at
FROM topics WHERE name > ? AND stored > 0 ORDER BY name LIMIT ?
"""
SIGHTINGS = """
SELECT source, duplicates, conflicts, first_at, last_at
FROM (SELECT * FROM sightings WHERE seq = :seq LIMIT :scanned)
ORDER BY first_at, source LIMIT :most
"""
CLASHES_OF = """
SELECT digest, differences, source, times, first_at, last_at FROM clashes
WHERE seq = ? ORDER BY first_at, digest LIMIT ?
"""
Places = Generator[tuple[Block | None, int], None, None]
"""Events: of each its block, None if that is gone or cannot be read, and its seq."""


def page(db: sqlite3.Connection, query: Query) -> Page:
    """One page of the events that match: a scan that is bounded, however few match.

    It looks at no more than SCANNED events, and at no more than PAGE_BYTES of them, for which it
    reads no more than READ_BYTES of blocks; then it says where to go on.
    """
    events: list[StoredEvent] = []
    looked_at = looked_into = read = last = 0
    before = None
    with closing(_scan(db, query)) as places:
        for block, seq in places:
            members = block.members(seq) if block else Members()
            is_on_topic = block is not None and query.topic in (None, members.topic)
            is_full = len(events) == query.limit and is_on_topic
            is_another = block is not before
            has_read = is_another and read >= READ_BYTES
            if is_full or has_read or looked_at == SCANNED or looked_into >= PAGE_BYTES:
                return Page(events, last)
            looked_at, last = looked_at + 1, seq
            if block is None:
                continue
            looked_into += block.size_of(seq)
            if is_another:
                read, before = read + block.size, block
            if is_on_topic and _is_wanted(query, block, seq, members):
                events.append(block.event(seq, members))
    return Page(events, None)


def _is_wanted(query: Query, block: Block, seq: int, members: Members) -> bool:
    """Whether an event on the topic matches; into its payload it looks last."""
    return (
        query.source in (None, members.source)
        and _is_within(query.received_since, query.received_until, members.received_at)
        and _is_within(query.since, query.until, members.time)
        and (query.field is None or _has_field(query, block, seq, members))
    )


def _has_field(query: Query, block: Block, seq: int, members: Members) -> bool:
    assert query.field
    form = payload_kind_of(members.payload_kind)
    return query.field.is_in(block.payload(seq, form), form)


def _is_within(since: int | None, until: int | None, time: int | None) -> bool:
    if since is None and until is None:
        return True
    return time is not None and (since is None or since <= time) and (until is None or time < until)


def _scan(db: sqlite3.Connection, query: Query) -> Places:
    """Where to look, in the order of the query."""
    beginning = _BEYOND_THE_NEWEST if query.descending else 0
    wanted = {"seq": beginning if query.after is None else query.after}
    if query.field and (value := fields.lookup(db, query.field)):
        return _by_field(db, query, wanted | value)
    if query.topic is None:
        return _among(db, BACKWARD if query.descending else FORWARD, query, wanted)
    statement = BACKWARD_ON_TOPIC if query.descending else FORWARD_ON_TOPIC
    (topic_id,) = db.execute(TOPIC_ID, (query.topic,)).fetchone() or (0,)
    return _among(db, statement, query, wanted | {"topic_id": topic_id})


def _by_field(db: sqlite3.Connection, query: Query, wanted: dict[str, Any]) -> Places:
    statement = BACKWARD_BY_FIELD if query.descending else FORWARD_BY_FIELD
    with closing(db.execute(statement, wanted)) as found:
        yield from blocks.of(db, (seq for (seq,) in found))


def _among(db: sqlite3.Connection, statement: str, query: Query, wanted: dict[str, Any]) -> Places:
    """All events of these blocks, from where the query begins."""
    after = wanted["seq"]
    with closing(blocks.among(db, statement, wanted)) as found:
        for block in found:
            for seq in reversed(block.seqs) if query.descending else block.seqs:
                if seq < after if query.descending else seq > after:
                    yield block, seq


def find(
    db: sqlite3.Connection, index: KeyIndex, name: bytes, limit: int, source: str | None
) -> list[StoredEvent]:
    """The first events of that key or name, from one source or from any."""
    events: list[StoredEvent] = []
    owner = index.find(db, name)  # first: what is read below holds on to what the file is then
    with closing(db.execute(SEQS_OF_NAME, (name,))) as rows:
        seqs = merge([owner] if owner else [], (seq for (seq,) in rows))
        for block, seq in blocks.of(db, seqs):
            if block is None:
                continue
            members = block.members(seq)
            if source in (None, members.source) and not (events and events[-1].seq == seq):
                events.append(block.event(seq, members))
            if len(events) == limit:
                break
    return events


def span(db: sqlite3.Connection) -> Span:
    """From the oldest event to the last one that was stored."""
    oldest, newest = db.execute(SPAN).fetchone()
    if oldest is None:
        oldest = newest + 1 if newest else 0
    return Span(oldest, newest)


def counters(db: sqlite3.Connection) -> Counters:
    """The counters of the last commit."""
    return Counters(*db.execute(COUNTERS).fetchone())


def topics(db: sqlite3.Connection, after: str, limit: int) -> list[Topic]:
    """Topics by name."""
    return [Topic(*row) for row in db.execute(TOPICS, (after, limit))]


def history(db: sqlite3.Connection, seq: int, limit: int) -> History:
    """The earliest of both."""
    wanted = {"seq": seq, "scanned": _SCANNED_SOURCES, "most": limit}
    redeliveries = [RedeliveryStats(*row) for row in db.execute(SIGHTINGS, wanted)]
    clashes = [
        ConflictStats(digest, _pointers(differences), *seen)
        for digest, differences, *seen in db.execute(CLASHES_OF, (seq, limit))
    ]
    return History(redeliveries, clashes)


def _pointers(differences: str) -> tuple[str, ...]:
    """None where a flipped bit has made them unreadable."""
    try:
        return msgspec.json.decode(differences, type=tuple[str, ...])
    except msgspec.MsgspecError:
        return ()
