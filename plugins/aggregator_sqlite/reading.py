"""The reading side: what connections that cannot write ask for beside pages of events."""

import sqlite3
from contextlib import closing
from heapq import merge

from aggregator.store import Counters, Span, StoredEvent, Topic
from aggregator_sqlite import blocks
from aggregator_sqlite.index import Index

SEQS_OF_NAME = "SELECT CAST(seq AS INTEGER) FROM names WHERE name = ? ORDER BY seq"
SPAN = "SELECT (SELECT min(first) FROM blocks), last_seq FROM counters"
COUNTERS = """
SELECT stored, duplicate, conflict, invalid, filtered, refused, failed_async, topics, quarantined,
    evicted
FROM counters
"""
TOPICS = """
SELECT name, stored, duplicate, conflict, first_seq, first_at, last_seq, last_at
FROM topics WHERE name > ? AND stored > 0 ORDER BY name LIMIT ?
"""


def find(
    db: sqlite3.Connection, index: Index, name: bytes, limit: int, source: str | None
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
