"""The reading side: what connections that cannot write ask for, a page at a time.

A page looks at no more than SCANNED events, and ends where its payloads reach PAGE_BYTES: it then
says where to go on. So neither its work nor its read transaction grows with what is stored.
"""

import sqlite3
from contextlib import closing

from aggregator.store import PAGE_BYTES, Counters, Page, Query, StoredEvent

SCANNED = 20_000
_BEYOND_THE_NEWEST = 2**63 - 1

FORWARD = "SELECT seq, source, time FROM events WHERE seq > :after ORDER BY seq LIMIT :most"
BACKWARD = "SELECT seq, source, time FROM events WHERE seq < :after ORDER BY seq DESC LIMIT :most"
FORWARD_ON_TOPIC = """
SELECT seq, source, time FROM events
WHERE topic_id = (SELECT id FROM topics WHERE name = :topic) AND seq > :after
ORDER BY seq LIMIT :most
"""
BACKWARD_ON_TOPIC = """
SELECT seq, source, time FROM events
WHERE topic_id = (SELECT id FROM topics WHERE name = :topic) AND seq < :after
ORDER BY seq DESC LIMIT :most
"""
EVENT = """
SELECT events.seq, events.received_at, topics.name, events.event_id, events.timestamp,
    events.source, events.payload, events.key, events.digest
FROM events JOIN topics ON topics.id = events.topic_id
WHERE events.seq = ?
"""
SEQ_OF_KEY = "SELECT seq FROM keys WHERE key = ?"
COUNTERS = """
SELECT stored, duplicate, conflict, invalid, filtered, refused, topics FROM counters
"""
TOPICS = "SELECT name FROM topics WHERE stored > 0 ORDER BY name LIMIT ?"


def page(db: sqlite3.Connection, query: Query) -> Page:
    """The events of one page."""
    seqs, after = _matching(db, query)
    events: list[StoredEvent] = []
    size = 0
    for seq in seqs:
        if size >= PAGE_BYTES:
            return Page(events, events[-1].seq)
        events.append(_event(db, seq))
        size += len(events[-1].payload or b"")
    return Page(events, after)


def find(db: sqlite3.Connection, key: bytes) -> StoredEvent | None:
    """The event that holds the key."""
    found = db.execute(SEQ_OF_KEY, (key,)).fetchone()
    row = db.execute(EVENT, found).fetchone() if found else None
    return StoredEvent(*row) if row else None


def counters(db: sqlite3.Connection) -> Counters:
    """The counters of the last commit."""
    return Counters(*db.execute(COUNTERS).fetchone())


def topics(db: sqlite3.Connection, limit: int) -> list[str]:
    """The first names of topics, in order."""
    return [name for (name,) in db.execute(TOPICS, (limit,))]


def _matching(db: sqlite3.Connection, query: Query) -> tuple[list[int], int | None]:
    """The seqs of a page, and the seq to go on after; None where nothing is left."""
    seqs: list[int] = []
    looked_at = 0
    with closing(_scan(db, query)) as rows:
        for seq, source, time in rows:
            if len(seqs) == query.limit:
                return seqs, seqs[-1]
            looked_at += 1
            if _matches(query, source, time):
                seqs.append(seq)
    return seqs, seq if looked_at == SCANNED else None


def _scan(db: sqlite3.Connection, query: Query) -> sqlite3.Cursor:
    first = _BEYOND_THE_NEWEST if query.descending else 0
    wanted = {
        "topic": query.topic,
        "after": first if query.after is None else query.after,
        "most": SCANNED,
    }
    if query.topic is None:
        return db.execute(BACKWARD if query.descending else FORWARD, wanted)
    return db.execute(BACKWARD_ON_TOPIC if query.descending else FORWARD_ON_TOPIC, wanted)


def _matches(query: Query, source: str, time: int | None) -> bool:
    return (
        query.source in (None, source)
        and (query.since is None or (time is not None and query.since <= time))
        and (query.until is None or (time is not None and time < query.until))
    )


def _event(db: sqlite3.Connection, seq: int) -> StoredEvent:
    return StoredEvent(*db.execute(EVENT, (seq,)).fetchone())
