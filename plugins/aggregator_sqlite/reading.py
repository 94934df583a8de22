"""The reading side: what connections that cannot write ask for, a page at a time.

A page also ends where its payloads reach PAGE_BYTES. So neither its work nor its read transaction
grows with what is stored.
"""

import sqlite3

from aggregator.store import PAGE_BYTES, Counters, Page, Query, Span, StoredEvent, Topic
from aggregator_sqlite.index import Index
from aggregator_sqlite.scan import matching
from aggregator_sqlite.schema import form_of

EVENT = """
SELECT events.seq, events.received_at, coalesce(topics.name, ''), events.event_id,
    events.timestamp, events.source, CAST(events.payload AS BLOB), events.key, events.digest,
    events.form, coalesce(events.attributes, x'')
FROM events LEFT JOIN topics ON topics.id = events.topic_id
WHERE events.seq = ?
"""
SOURCE = "SELECT source FROM events WHERE seq = ?"
SEQS_OF_NAME = """
SELECT events.seq FROM names CROSS JOIN events ON events.seq = names.seq
WHERE name = :name AND (:source IS NULL OR source = :source) ORDER BY names.seq LIMIT :most
"""
SPAN = "SELECT (SELECT min(seq) FROM events), last_seq FROM counters"
COUNTERS = """
SELECT stored, duplicate, conflict, invalid, filtered, refused, failed_async, topics, quarantined,
    evicted
FROM counters
"""
TOPICS = """
SELECT name, stored, duplicate, conflict,
    coalesce(first, 0), coalesce((SELECT received_at FROM events WHERE seq = first), 0),
    coalesce(last, 0), coalesce((SELECT received_at FROM events WHERE seq = last), 0)
FROM (
    SELECT name, stored, duplicate, conflict,
        (SELECT min(seq) FROM events WHERE topic_id = topics.id) AS first,
        (SELECT max(seq) FROM events WHERE topic_id = topics.id) AS last
    FROM topics WHERE name > ? AND stored > 0 ORDER BY name LIMIT ?
)
ORDER BY name
"""


def page(db: sqlite3.Connection, query: Query) -> Page:
    """The events of one page."""
    seqs, after = matching(db, query)
    events: list[StoredEvent] = []
    size = 0
    for seq in seqs:
        if size >= PAGE_BYTES:
            return Page(events, events[-1].seq)
        if event := _event(db, seq):
            events.append(event)
            size += len(event.payload or b"")
    return Page(events, after)


def find(
    db: sqlite3.Connection, index: Index, name: bytes, limit: int, source: str | None
) -> list[StoredEvent]:
    """The first events of that key or name, from one source or from any."""
    wanted = {"name": name, "source": source, "most": limit}
    found = {seq for (seq,) in db.execute(SEQS_OF_NAME, wanted)}
    holder = index.find(db, name)
    sent_by = db.execute(SOURCE, (holder,)).fetchone()
    if holder and sent_by and source in (None, *sent_by):
        found.add(holder)
    seqs = sorted(found)[:limit]
    return [event for seq in seqs if (event := _event(db, seq))]


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
    """Topics by name; those whose events were all removed by hand have no ends."""
    return [Topic(*row) for row in db.execute(TOPICS, (after, limit))]


def _event(db: sqlite3.Connection, seq: int) -> StoredEvent | None:
    row = db.execute(EVENT, (seq,)).fetchone()
    if row is None:  # removed by hand since it was found
        return None
    *members, form, attributes = row
    members += [form_of(form), attributes]
    return StoredEvent(*members)
