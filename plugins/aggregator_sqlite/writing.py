"""What is written in a transaction: events and counters."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from aggregator.core.identity import PayloadKind
from aggregator.store import PAGE_BYTES, Content, Counters, KeyOwner
from aggregator_sqlite import blocks
from aggregator_sqlite.connection import Bulk
from aggregator_sqlite.keys import Keys
from aggregator_sqlite.prepared import Prepared
from aggregator_sqlite.schema import payload_kind_of

SET_LAST_SEQ = "UPDATE counters SET last_seq = ?"
ADD_TOPICS = Bulk("""
INSERT INTO topics (name, first_seq, first_at, last_seq, last_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    last_seq = excluded.last_seq, last_at = excluded.last_at
""")
ADD_NAMES = Bulk("INSERT INTO names (name, seq) VALUES (?, ?)")
COUNT_BY_TOPIC = Bulk("""
WITH counted (topic, stored, duplicate, conflict) AS (VALUES (?, ?, ?, ?))
UPDATE topics SET
    stored = topics.stored + counted.stored,
    duplicate = topics.duplicate + counted.duplicate,
    conflict = topics.conflict + counted.conflict
FROM counted WHERE name = topic
""")
# Rows are found by the index. The name in the row is not asked for: a bit of it may have flipped.
TOPICS = Bulk("""
WITH wanted (topic) AS (VALUES (?))
SELECT topic, id, stored FROM wanted CROSS JOIN topics ON name = topic
""")
COUNT = """
UPDATE counters SET
    stored = stored + ?, duplicate = duplicate + ?, conflict = conflict + ?,
    invalid = invalid + ?, filtered = filtered + ?, refused = refused + ?,
    failed_async = failed_async + ?, topics = topics + ?
RETURNING stored, duplicate, conflict, invalid, filtered, refused, failed_async, topics,
    quarantined, evicted
"""


def claim(db: sqlite3.Connection, keys: Keys, wanted: Collection[bytes]) -> dict[bytes, KeyOwner]:
    """The holders of those of the keys that are held."""
    seqs = keys.held(db, wanted)
    found = blocks.of(db, sorted(seqs.values()), keys.left_alone)
    owners = {seq: _owner(block, seq) for block, seq in found}
    return {key: owners[seq] for key, seq in seqs.items()}


def contents(db: sqlite3.Connection, keys: Keys, seqs: Sequence[int]) -> list[Content]:
    """The contents of the first of these events."""
    found: list[Content] = []
    size = 0
    for block, seq in blocks.of(db, seqs, keys.left_alone):
        source, payload, form = "", None, PayloadKind.JSON
        if block:
            members = block.members(seq)
            source, form = members.source, payload_kind_of(members.payload_kind)
            payload = block.payload(seq, form)
        found.append(Content(source, payload, form))
        size += len(payload or b"")
        if size >= PAGE_BYTES:
            break
    return found


def append(db: sqlite3.Connection, events: Prepared) -> None:
    """Store events, and what they are found by: their topics, and other names."""
    ADD_TOPICS(db, events.topics)
    ids = {topic: id_ for topic, id_, _ in TOPICS(db, [ends[:1] for ends in events.topics])}
    blocks.ADD(db, [row for row, _ in events.rows])
    blocks.ADD_TO_TOPICS(db, [(ids[topic], row[0]) for row, on in events.rows for topic in on])
    ADD_NAMES(db, events.names)
    db.execute(SET_LAST_SEQ, (events.last,))


def count(db: sqlite3.Connection, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
    """Add to the counters; a topic is new when all that is stored on it is added here.

    One on which no event was ever stored has no row.
    """
    added = [(topic, one.stored, one.duplicate, one.conflict) for topic, one in by_topic.items()]
    COUNT_BY_TOPIC(db, added)
    found = TOPICS(db, [(topic,) for topic in by_topic])
    new_topics = sum(0 < by_topic[topic].stored == stored for topic, _, stored in found)
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


def _owner(block: blocks.Block | None, seq: int) -> KeyOwner:
    """Where the event is unreadable or gone, nothing is the same as it."""
    if block is None:
        return KeyOwner(seq, b"", 0)
    return KeyOwner(seq, block.digest(seq), block.members(seq).received_at)
