"""What is written in a transaction: events and counters."""

import sqlite3
from collections.abc import Mapping, Sequence

from aggregator.event import Event
from aggregator.store import PAGE_BYTES, Content, Counters, Holder
from aggregator_sqlite import fields
from aggregator_sqlite.bulk import Insert
from aggregator_sqlite.keys import Keys
from aggregator_sqlite.schema import TOPIC_ID, form_of

HOLDER = "SELECT seq, digest, received_at FROM events WHERE seq = ?"
FIND_CONTENT = "SELECT source, payload, form FROM events WHERE seq = ?"
LAST_SEQ = "SELECT last_seq FROM counters"
SET_LAST_SEQ = "UPDATE counters SET last_seq = ?"
ADD_TOPIC = "INSERT INTO topics (name) VALUES (?) ON CONFLICT DO NOTHING"
ADD_NAME = "INSERT INTO names (name, seq) VALUES (?, ?)"
ADD_EVENTS = Insert(
    """INSERT INTO events
(seq, received_at, key, digest, topic_id, event_id, time, timestamp, source, payload, form,
    attributes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
)
COUNT_TOPIC = """
UPDATE topics SET stored = stored + ?, duplicate = duplicate + ?, conflict = conflict + ?
WHERE name = ? RETURNING stored
"""
COUNT = """
UPDATE counters SET
    stored = stored + ?, duplicate = duplicate + ?, conflict = conflict + ?,
    invalid = invalid + ?, filtered = filtered + ?, refused = refused + ?,
    failed_async = failed_async + ?, topics = topics + ?
RETURNING stored, duplicate, conflict, invalid, filtered, refused, failed_async, topics,
    quarantined, evicted
"""


def claim(db: sqlite3.Connection, keys: Keys, wanted: Sequence[bytes]) -> list[Holder | None]:
    """The holder of each key."""
    seqs = keys.held(db, wanted)
    if not seqs:
        return [None] * len(wanted)
    return [_holder(db, seqs.get(key)) for key in wanted]


def contents(db: sqlite3.Connection, seqs: Sequence[int]) -> list[Content]:
    """The contents of the first of these events."""
    found: list[Content] = []
    size = 0
    for seq in seqs:
        source, payload, form = db.execute(FIND_CONTENT, (seq,)).fetchone()
        found.append(Content(source, payload, form_of(form)))
        size += len(payload or b"")
        if size >= PAGE_BYTES:
            break
    return found


def append(
    db: sqlite3.Connection, keys: Keys, events: Sequence[Event], pointers: fields.Pointers
) -> list[int]:
    """Store events under the next seqs, and by what else they are found."""
    topics = {topic: _topic_id(db, topic) for topic in {event.topic for event in events}}
    first = db.execute(LAST_SEQ).fetchone()[0] + 1
    seqs = list(range(first, first + len(events)))
    keys.take(db, [event.key for event in events], seqs)
    appended = list(zip(seqs, events, strict=True))
    ADD_EVENTS(db, [_row(seq, event, topics[event.topic]) for seq, event in appended])
    db.executemany(ADD_NAME, [(event.name, seq) for seq, event in appended if event.name])
    if pointers:
        fields.add(db, pointers, appended)
    db.execute(SET_LAST_SEQ, (first + len(events) - 1,))
    return seqs


def count(db: sqlite3.Connection, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
    """Add to the counters; a topic is new when all that is stored on it is added here.

    One on which no event was ever stored has no row.
    """
    new_topics = 0
    for topic, counts in by_topic.items():
        added = (counts.stored, counts.duplicate, counts.conflict, topic)
        row = db.execute(COUNT_TOPIC, added).fetchone()
        new_topics += row is not None and 0 < counts.stored == row[0]
    totals = db.execute(
        COUNT,
        (
            counted.stored,
            counted.duplicate,
            counted.conflict,
            counted.invalid,
            counted.filtered,
            counted.refused,
            counted.failed_async,
            new_topics,
        ),
    ).fetchone()
    return Counters(*totals)


def _holder(db: sqlite3.Connection, seq: int | None) -> Holder | None:
    row = db.execute(HOLDER, (seq,)).fetchone() if seq else None
    return Holder(*row) if row else None


def _topic_id(db: sqlite3.Connection, name: str) -> int:
    db.execute(ADD_TOPIC, (name,))
    topic_id: int = db.execute(TOPIC_ID, (name,)).fetchone()[0]
    return topic_id


def _row(seq: int, event: Event, topic_id: int) -> tuple[object, ...]:
    return (
        seq,
        event.received_at,
        event.key,
        event.digest,
        topic_id,
        event.event_id,
        event.moment,
        event.timestamp or None,
        event.source,
        event.payload,
        event.form.value,
        event.attributes or None,
    )
