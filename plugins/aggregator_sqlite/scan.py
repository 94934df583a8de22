"""Which events a query means: a scan that is bounded, however few match.

It looks at no more than SCANNED events, and into no more than PAGE_BYTES of payloads; then it says
where to go on.
"""

import sqlite3
from contextlib import closing

from aggregator.store import PAGE_BYTES, Query
from aggregator_sqlite import fields
from aggregator_sqlite.schema import TOPIC_ID, form_of

SCANNED = 20_000
_BEYOND_THE_NEWEST = 2**63 - 1

FORWARD = """
SELECT seq, topic_id, source, time, received_at FROM events
WHERE seq > :after ORDER BY seq LIMIT :most
"""
BACKWARD = """
SELECT seq, topic_id, source, time, received_at FROM events
WHERE seq < :after ORDER BY seq DESC LIMIT :most
"""
FORWARD_ON_TOPIC = """
SELECT seq, topic_id, source, time, received_at FROM events
WHERE topic_id = :topic_id AND seq > :after ORDER BY seq LIMIT :most
"""
BACKWARD_ON_TOPIC = """
SELECT seq, topic_id, source, time, received_at FROM events
WHERE topic_id = :topic_id AND seq < :after ORDER BY seq DESC LIMIT :most
"""
FORWARD_BY_FIELD = """
SELECT events.seq, topic_id, source, time, received_at
FROM fields CROSS JOIN events ON events.seq = fields.seq
WHERE pointer_id = :pointer_id AND value = :value AND fields.seq > :after
ORDER BY fields.seq LIMIT :most
"""
BACKWARD_BY_FIELD = """
SELECT events.seq, topic_id, source, time, received_at
FROM fields CROSS JOIN events ON events.seq = fields.seq
WHERE pointer_id = :pointer_id AND value = :value AND fields.seq < :after
ORDER BY fields.seq DESC LIMIT :most
"""
PAYLOAD = "SELECT CAST(payload AS BLOB), form FROM events WHERE seq = ?"


def matching(db: sqlite3.Connection, query: Query) -> tuple[list[int], int | None]:
    """The seqs of a page, and the seq to go on after; None where nothing is left."""
    topic_id = _topic_id(db, query.topic)
    if query.topic is not None and topic_id is None:
        return [], None
    wanted = Filter(db, query, topic_id)
    seqs: list[int] = []
    looked_at, last = 0, None
    with closing(_scan(db, query, topic_id)) as rows:
        for row in rows:
            if len(seqs) == query.limit or wanted.has_read_enough:
                return seqs, last
            looked_at, last = looked_at + 1, row[0]
            if wanted.lets_through(*row):
                seqs.append(last)
    return seqs, last if looked_at == SCANNED else None


class Filter:
    """What a query asks of an event, and how much of payloads was read to find out."""

    def __init__(self, db: sqlite3.Connection, query: Query, topic_id: int | None) -> None:
        self._db = db
        self._query = query
        self._topic_id = topic_id
        self._looked_into = 0

    @property
    def has_read_enough(self) -> bool:
        """Whether a page should end, whatever it has found."""
        return self._looked_into >= PAGE_BYTES

    def lets_through(
        self, seq: int, topic_id: int, source: str, time: int | None, received_at: int
    ) -> bool:
        """Whether the event matches; into its payload it looks last."""
        query = self._query
        return (
            self._topic_id in (None, topic_id)
            and query.source in (None, source)
            and _is_within(query.received_since, query.received_until, received_at)
            and _is_within(query.since, query.until, time)
            and self._has_field(seq)
        )

    def _has_field(self, seq: int) -> bool:
        if self._query.field is None:
            return True
        payload, form = self._db.execute(PAYLOAD, (seq,)).fetchone() or (None, None)
        self._looked_into += len(payload or b"")
        return self._query.field.is_in(payload, form_of(form))


def _topic_id(db: sqlite3.Connection, topic: str | None) -> int | None:
    row = None if topic is None else db.execute(TOPIC_ID, (topic,)).fetchone()
    return row[0] if row else None


def _scan(db: sqlite3.Connection, query: Query, topic_id: int | None) -> sqlite3.Cursor:
    first = _BEYOND_THE_NEWEST if query.descending else 0
    after = first if query.after is None else query.after
    wanted = {"topic_id": topic_id, "after": after, "most": SCANNED}
    if query.field and (value := fields.lookup(db, query.field)):
        statement = BACKWARD_BY_FIELD if query.descending else FORWARD_BY_FIELD
        return db.execute(statement, wanted | value)
    if topic_id is None:
        return db.execute(BACKWARD if query.descending else FORWARD, wanted)
    return db.execute(BACKWARD_ON_TOPIC if query.descending else FORWARD_ON_TOPIC, wanted)


def _is_within(since: int | None, until: int | None, time: int | None) -> bool:
    if since is None and until is None:
        return True
    return time is not None and (since is None or since <= time) and (until is None or time < until)
