"""What a transaction runs on the writer's thread: it looks up keys, appends events and counts."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from aggregator.event import Event
from aggregator.store import MOST_CONFLICTS, Counters, KeyOwner, Redelivery
from aggregator_sqlite import arrivals, blocks
from aggregator_sqlite.connection import MultiRowStatement
from aggregator_sqlite.key_index import KeyClaims

SET_LAST_SEQ = "UPDATE counters SET last_seq = ?"
ADD_TOPICS = MultiRowStatement("""
INSERT INTO topics (name, first_seq, first_at, last_seq, last_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    last_seq = excluded.last_seq, last_at = excluded.last_at
""")
ADD_NAMES = MultiRowStatement("INSERT INTO names (name, seq) VALUES (?, ?)")
COUNT_BY_TOPIC = MultiRowStatement("""
WITH counted (topic, stored, duplicate, conflict) AS (VALUES (?, ?, ?, ?))
UPDATE topics SET
    stored = topics.stored + counted.stored,
    duplicate = topics.duplicate + counted.duplicate,
    conflict = topics.conflict + counted.conflict
FROM counted WHERE name = topic
""")
# Found by the index alone, and named as asked for: in the row itself a bit may have flipped.
TOPICS = MultiRowStatement("""
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
ADD_SIGHTING = """
INSERT INTO redeliveries (seq, source, duplicates, conflicts, first_at, last_at)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (seq, source) DO UPDATE SET
    duplicates = duplicates + excluded.duplicates,
    conflicts = conflicts + excluded.conflicts,
    first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at)
"""
ADD_CLASH = """
INSERT INTO conflicting_contents (seq, digest, differences, source, times, first_at, last_at)
SELECT :seq, :digest, :differences, :source, 1, :seen_at, :seen_at
WHERE (SELECT count(*) FROM conflicting_contents WHERE seq = :seq) < :most
    OR EXISTS (SELECT 1 FROM conflicting_contents WHERE seq = :seq AND digest = :digest)
ON CONFLICT (seq, digest) DO UPDATE SET
    times = times + 1,
    first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at)
"""

TopicBounds = tuple[str, int, int, int, int]
"""A topic, the seq and arrival of its first event in the batch, and the same of its last."""


@dataclass(frozen=True)
class EncodedBatch:
    """Consecutive events as the rows that are written of them.

    Made on the event loop, where they are appended: so an event that cannot be written is the fault
    of the stage that appends it, and the writer's thread is handed a few objects instead of many.
    """

    last: int  # seq
    rows: list[tuple[blocks.Row, arrivals.Times]]  # blocks
    rows_on: list[tuple[str, int]]  # the topics in each block, by its first seq
    topics: list[TopicBounds]
    names: list[tuple[bytes, int]]  # by which events are found besides their key, and their seqs

    @classmethod
    def of(cls, first: int, events: Sequence[Event]) -> "EncodedBatch":
        """Encode events from that seq on. Raises TypeError or ValueError if one cannot be."""
        rows, rows_on = [], []
        for row, some in blocks.pack(first, events):
            rows.append((row, arrivals.times_of(some)))
            rows_on += [(topic, row[0]) for topic in {event.topic for event in some}]
        names = [(event.name, seq) for seq, event in enumerate(events, first) if event.name]
        topics = list(_topics(first, events))
        _check(topics, names)
        return cls(first + len(events) - 1, rows, rows_on, topics, names)


def _check(topics: list[TopicBounds], names: list[tuple[bytes, int]]) -> None:
    """Raise TypeError or ValueError for what SQLite would refuse later, on its thread."""
    for topic, *numbers in topics:
        if not isinstance(topic, str) or any(not 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"events on topic {topic!r} that were received at {numbers[1::2]}")
    if any(not isinstance(name, bytes) for name, _ in names):
        raise TypeError("the name of an event should be bytes")


def _topics(first: int, events: Sequence[Event]) -> Iterator[TopicBounds]:
    topics = [event.topic for event in events]
    places = range(len(events))
    newest = dict(zip(topics, places, strict=True))
    oldest = dict(zip(reversed(topics), reversed(places), strict=True))
    for topic, last in newest.items():
        begin = oldest[topic]
        yield (
            topic,
            first + begin,
            events[begin].received_at,
            first + last,
            events[last].received_at,
        )


def owners(
    db: sqlite3.Connection, claims: KeyClaims, wanted: Collection[bytes]
) -> dict[bytes, KeyOwner]:
    """The events that hold these keys; none for a key that is new."""
    seqs = claims.held(db, wanted)
    in_order = sorted(seqs.values())
    found = blocks.for_seqs(db, in_order, claims.unreadable, blocks.BLOCK_OR_MARK)
    by_seq = {seq: _owner(db, block, seq, claims.unreadable) for block, seq in found}
    return {key: by_seq[seq] for key, seq in seqs.items()}


def _owner(
    db: sqlite3.Connection, block: blocks.Block | None, seq: int, unreadable: set[int]
) -> KeyOwner:
    """An event that is unreadable or gone has an empty digest, which equals no other."""
    if block is None:
        return KeyOwner(seq, b"", 0)
    if block.is_marked:
        return KeyOwner(seq, block.digest(seq), blocks.arrival_of_marked(db, block, unreadable))
    return KeyOwner(seq, block.digest(seq), block.members(seq).received_at)


def append(db: sqlite3.Connection, batch: EncodedBatch) -> None:
    """Store events, and what they are found by besides their keys: topics and names."""
    ADD_TOPICS(db, batch.topics)
    ids = {topic: id_ for topic, id_, _ in TOPICS(db, [ends[:1] for ends in batch.topics])}
    arrivals.add_blocks(db, batch.rows)
    blocks.ADD_TO_TOPICS(db, [(ids[topic], first) for topic, first in batch.rows_on])
    ADD_NAMES(db, batch.names)
    db.execute(SET_LAST_SEQ, (batch.last,))


def count(db: sqlite3.Connection, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
    """Add to the counters; return their new values.

    A topic is new if all that is stored on it is added here. One on which no event was ever stored
    has no row, and is passed over.
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


def record(db: sqlite3.Connection, redeliveries: Sequence[Redelivery]) -> None:
    """Count what came again by event and source, and keep the first contents that differed."""
    db.executemany(ADD_SIGHTING, map(_counted, redeliveries))
    db.executemany(ADD_CLASH, (_clash(seen) for seen in redeliveries if seen.conflicting))


def _counted(seen: Redelivery) -> tuple[object, ...]:
    is_conflict = seen.conflicting is not None
    return seen.seq, seen.source, int(not is_conflict), int(is_conflict), seen.seen_at, seen.seen_at


def _clash(seen: Redelivery) -> dict[str, object]:
    assert seen.conflicting
    return {
        "seq": seen.seq,
        "digest": seen.conflicting.digest,
        "differences": msgspec.json.encode(seen.conflicting.differences).decode(),
        "source": seen.source,
        "seen_at": seen.seen_at,
        "most": MOST_CONFLICTS,
    }
