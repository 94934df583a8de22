"""What a transaction runs on the writer's thread: it looks up keys, appends events and counts."""

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from aggregator.event import Event
from aggregator.store import MOST_CONFLICTS, Counters, KeyOwner, Redelivery
from aggregator_sqlite import arrivals, blocks, sums
from aggregator_sqlite.connection import MultiRowStatement
from aggregator_sqlite.key_index import KeyClaims
from aggregator_sqlite.runs import KEY, Named
from aggregator_sqlite.sums import CONFLICT, COUNTERS, REDELIVERY, TOPIC

# What is added to a row is added to its checksum by the same statement: `sums.py` says how.
SET_LAST_SEQ = COUNTERS.into(
    "UPDATE counters SET last_seq = :last, checksum = checksum + $more",
    more={"last_seq": ":last - last_seq"},
)
ADD_TOPICS = MultiRowStatement(
    TOPIC.into(
        """
WITH added (name, first_seq, first_at, last_seq, last_at, hash) AS (VALUES (?, ?, ?, ?, ?, ?))
INSERT INTO topics (name, first_seq, first_at, last_seq, last_at, checksum)
SELECT name, first_seq, first_at, last_seq, last_at, hash + $new FROM added WHERE true
ON CONFLICT (name) DO UPDATE SET
    last_seq = excluded.last_seq, last_at = excluded.last_at, checksum = topics.checksum + $more
""",
        new={name: name for name in ("first_seq", "first_at", "last_seq", "last_at")},
        more={
            "last_seq": "excluded.last_seq - topics.last_seq",
            "last_at": "excluded.last_at - topics.last_at",
        },
    )
)
COUNT_BY_TOPIC = MultiRowStatement(
    TOPIC.into(
        """
WITH counted (topic, stored, duplicate, conflict) AS (VALUES (?, ?, ?, ?))
UPDATE topics SET
    stored = topics.stored + counted.stored,
    duplicate = topics.duplicate + counted.duplicate,
    conflict = topics.conflict + counted.conflict,
    checksum = topics.checksum + $more
FROM counted WHERE name = topic
""",
        more={name: f"counted.{name}" for name in ("stored", "duplicate", "conflict")},
    )
)
# Found by the index alone, and named as asked for: in the row itself a bit may have flipped.
TOPICS = MultiRowStatement("""
WITH wanted (topic) AS (VALUES (?))
SELECT topic, id, stored FROM wanted CROSS JOIN topics ON name = topic
""")
_COUNTED = ("stored", "duplicate", "conflict", "invalid", "filtered", "refused", "failed_async",
            "topics")  # fmt: skip
COUNT = COUNTERS.into(
    """
UPDATE counters SET
    stored = stored + :stored, duplicate = duplicate + :duplicate, conflict = conflict + :conflict,
    invalid = invalid + :invalid, filtered = filtered + :filtered, refused = refused + :refused,
    failed_async = failed_async + :failed_async, topics = topics + :topics,
    checksum = checksum + $more
RETURNING stored, duplicate, conflict, invalid, filtered, refused, failed_async, topics,
    quarantined, evicted
""",
    more={name: f":{name}" for name in _COUNTED},
)
_TIMES = {
    "first_at": "min(first_at, excluded.first_at) - first_at",
    "last_at": "max(last_at, excluded.last_at) - last_at",
}
ADD_REDELIVERIES = MultiRowStatement(
    REDELIVERY.into(
        """
WITH added (seq, source, duplicates, conflicts, first_at, last_at, hash)
    AS (VALUES (?, ?, ?, ?, ?, ?, ?))
INSERT INTO redeliveries (seq, source, duplicates, conflicts, first_at, last_at, checksum)
SELECT seq, source, duplicates, conflicts, first_at, last_at, hash + $new FROM added WHERE true
ON CONFLICT (seq, source) DO UPDATE SET
    duplicates = duplicates + excluded.duplicates,
    conflicts = conflicts + excluded.conflicts,
    first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at),
    checksum = checksum + $more
""",
        new={name: name for name in ("seq", "duplicates", "conflicts", "first_at", "last_at")},
        more={"duplicates": "excluded.duplicates", "conflicts": "excluded.conflicts", **_TIMES},
    )
)
ADD_CLASH = CONFLICT.into(
    """
INSERT INTO conflicting_contents
(seq, digest, differences, source, times, first_at, last_at, checksum)
SELECT :seq, :digest, :differences, :source, :times, :first_at, :last_at, :hash + $new
WHERE (SELECT count(*) FROM conflicting_contents WHERE seq = :seq) < :most
    OR EXISTS (SELECT 1 FROM conflicting_contents WHERE seq = :seq AND digest = :digest)
ON CONFLICT (seq, digest) DO UPDATE SET
    times = times + 1,
    first_at = min(first_at, excluded.first_at),
    last_at = max(last_at, excluded.last_at),
    checksum = checksum + $more
""",
    new={name: f":{name}" for name in ("seq", "times", "first_at", "last_at")},
    more={"times": "1", **_TIMES},
)

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
    topics: Sequence[tuple[object, ...]]  # the bounds of each, and the hash of its name
    names: list[Named]  # by which events are found besides their key

    @classmethod
    def of(cls, first: int, events: Sequence[Event]) -> "EncodedBatch":
        """Encode events from that seq on. Raises TypeError or ValueError if one cannot be."""
        names = [(event.name, seq) for seq, event in enumerate(events, first) if event.name]
        _check_names(names)
        rows, rows_on = [], []
        for row, some in blocks.pack(first, events):
            rows.append((row, arrivals.times_of(some)))
            rows_on += [(topic, row[0]) for topic in {event.topic for event in some}]
        topics = list(_topics(first, events))
        _check_topics(topics)
        with_hashes = [(*bounds, sums.over(bounds[0])) for bounds in topics]
        return cls(first + len(events) - 1, rows, rows_on, with_hashes, names)


def _check_topics(topics: list[TopicBounds]) -> None:
    """Raise TypeError or ValueError for what SQLite would refuse later, on its thread."""
    for topic, *numbers in topics:
        if not isinstance(topic, str) or any(not 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"events on topic {topic!r} that were received at {numbers[1::2]}")


def _check_names(names: list[Named]) -> None:
    """Raise TypeError or ValueError for what is no name."""
    if any(not isinstance(name, bytes) for name, _ in names):
        raise TypeError("the name of an event should be bytes")
    if {len(name) for name, _ in names} - {KEY}:
        raise ValueError(f"a name has {KEY} bytes")


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
    """Store events, and which topics they are on."""
    ADD_TOPICS(db, batch.topics)
    ids = {topic: id_ for topic, id_, _ in TOPICS(db, [one[:1] for one in batch.topics])}
    arrivals.add_blocks(db, batch.rows)
    blocks.ADD_TO_TOPICS(db, [(ids[topic], first) for topic, first in batch.rows_on])
    db.execute(SET_LAST_SEQ, {"last": batch.last})


def count(db: sqlite3.Connection, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
    """Add to the counters; return their new values.

    A topic is new if all that is stored on it is added here. One on which no event was ever stored
    has no row, and is passed over.
    """
    added = [(topic, one.stored, one.duplicate, one.conflict) for topic, one in by_topic.items()]
    COUNT_BY_TOPIC(db, added)
    found = TOPICS(db, [(topic,) for topic in by_topic])
    new_topics = sum(0 < by_topic[topic].stored == stored for topic, _, stored in found)
    totals = db.execute(COUNT, msgspec.structs.asdict(counted) | {"topics": new_topics}).fetchone()
    return Counters(*totals)


def record(db: sqlite3.Connection, redeliveries: Sequence[Redelivery]) -> None:
    """Count what came again by event and source, and keep the first contents that differed."""
    ADD_REDELIVERIES(db, _summed(redeliveries))
    db.executemany(ADD_CLASH, (_clash(seen) for seen in redeliveries if seen.conflicting))


def _summed(redeliveries: Sequence[Redelivery]) -> list[tuple[object, ...]]:
    """A row for each event and source, in the order of seq, with the hash over the source."""
    summed: dict[tuple[int, str], tuple[int, int, int, int]] = {}
    for seen in redeliveries:
        is_conflict = seen.conflicting is not None
        one = (int(not is_conflict), int(is_conflict), seen.seen_at, seen.seen_at)
        if before := summed.get((seen.seq, seen.source)):
            duplicates, conflicts, first_at, last_at = before
            one = (
                duplicates + one[0],
                conflicts + one[1],
                min(first_at, seen.seen_at),
                max(last_at, seen.seen_at),
            )
        summed[seen.seq, seen.source] = one
    hashes = {source: sums.over(source) for _, source in summed}
    return [(*key, *summed[key], hashes[key[1]]) for key in sorted(summed)]


def _clash(seen: Redelivery) -> dict[str, object]:
    assert seen.conflicting
    digest = seen.conflicting.digest
    differences = msgspec.json.encode(seen.conflicting.differences).decode()
    return {
        "seq": seen.seq,
        "digest": digest,
        "differences": differences,
        "source": seen.source,
        "times": 1,
        "first_at": seen.seen_at,
        "last_at": seen.seen_at,
        "most": MOST_CONFLICTS,
        "hash": sums.over(digest, differences, seen.source),
    }
