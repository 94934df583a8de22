"""The writing side: one transaction on the one connection that writes."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aggregator import timestamp
from aggregator.errors import KeyHeld
from aggregator.event import Event
from aggregator.store import PAGE_BYTES, Content, Counters, Holder, Sighting, StoreTransaction
from aggregator_sqlite.thread import Thread

R = TypeVar("R")

FIND_HOLDER = """
SELECT events.seq, events.digest, events.received_at
FROM keys JOIN events ON events.seq = keys.seq WHERE keys.key = ?
"""
FIND_CONTENT = "SELECT source, payload FROM events WHERE seq = ?"
LAST_SEQ = "SELECT last_seq FROM counters"
SET_LAST_SEQ = "UPDATE counters SET last_seq = ?"
ADD_TOPIC = "INSERT INTO topics (name) VALUES (?) ON CONFLICT DO NOTHING"
FIND_TOPIC = "SELECT id FROM topics WHERE name = ?"
ADD_KEY = "INSERT INTO keys (key, seq) VALUES (?, ?)"
ADD_EVENT = """
INSERT INTO events
(seq, received_at, key, digest, topic_id, event_id, time, timestamp, source, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_SIGHTING = """
INSERT INTO sightings (seq, source, duplicates, conflicts, last_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (seq, source) DO UPDATE SET
    duplicates = duplicates + excluded.duplicates,
    conflicts = conflicts + excluded.conflicts,
    last_at = max(last_at, excluded.last_at)
"""
COUNT_TOPIC = """
UPDATE topics SET stored = stored + ?, duplicate = duplicate + ?, conflict = conflict + ?
WHERE name = ? RETURNING stored
"""
COUNT = """
UPDATE counters SET
    stored = stored + ?, duplicate = duplicate + ?, conflict = conflict + ?,
    invalid = invalid + ?, filtered = filtered + ?, refused = refused + ?, topics = topics + ?
RETURNING stored, duplicate, conflict, invalid, filtered, refused, topics
"""


class SqliteTransaction(StoreTransaction):
    """Begins with the first call. Each call is one hop to the writer's thread."""

    def __init__(self, writer: Thread) -> None:
        self._writer = writer
        self._begun = False

    async def claim(self, keys: Sequence[bytes]) -> list[Holder | None]:
        """The holder of each key. The writer's lock, held from the start, keeps rivals waiting."""
        return await self._call(_claim, keys)

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events."""
        return await self._call(_contents, seqs)

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store events and keys under the next seqs."""
        return await self._call(_append, events)

    async def record(self, sightings: Sequence[Sighting]) -> None:
        """Add to the sightings of each event by source."""
        await self._call(_record, sightings)

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
        """Add to the counters."""
        return await self._call(_count, counted, by_topic)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undone alone when the block raises."""
        await self._call(_savepoint)
        try:
            yield
        except BaseException:
            await self._call(_undo_savepoint)
            raise
        await self._call(_release_savepoint)

    async def commit(self) -> None:
        """Make it durable: one fsync."""
        if self._begun:
            await self._writer.run(_commit)

    async def roll_back(self) -> None:
        """Undo everything, after whatever is still under way."""
        if self._begun:
            await self._writer.run(_roll_back)

    async def _call(self, function: Callable[..., R], *args: Any) -> R:
        is_first, self._begun = not self._begun, True
        if is_first:
            return await self._writer.run(_begin_with, function, *args)
        return await self._writer.run(function, *args)


def _begin_with(db: sqlite3.Connection, function: Callable[..., R], *args: Any) -> R:
    db.execute("BEGIN IMMEDIATE")
    return function(db, *args)


def _commit(db: sqlite3.Connection) -> None:
    db.execute("COMMIT")


def _roll_back(db: sqlite3.Connection) -> None:
    db.rollback()


def _savepoint(db: sqlite3.Connection) -> None:
    db.execute("SAVEPOINT part")


def _undo_savepoint(db: sqlite3.Connection) -> None:
    db.execute("ROLLBACK TO part")
    db.execute("RELEASE part")


def _release_savepoint(db: sqlite3.Connection) -> None:
    db.execute("RELEASE part")


def _claim(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[Holder | None]:
    rows = [db.execute(FIND_HOLDER, (key,)).fetchone() for key in keys]
    return [Holder(*row) if row else None for row in rows]


def _contents(db: sqlite3.Connection, seqs: Sequence[int]) -> list[Content]:
    contents: list[Content] = []
    size = 0
    for seq in seqs:
        contents.append(Content(*db.execute(FIND_CONTENT, (seq,)).fetchone()))
        size += len(contents[-1].payload or b"")
        if size >= PAGE_BYTES:
            break
    return contents


def _append(db: sqlite3.Connection, events: Sequence[Event]) -> list[int]:
    topics = {topic: _topic_id(db, topic) for topic in {event.topic for event in events}}
    first = db.execute(LAST_SEQ).fetchone()[0] + 1
    seqs = list(range(first, first + len(events)))
    try:
        db.executemany(ADD_KEY, zip((event.key for event in events), seqs, strict=True))
    except sqlite3.IntegrityError as error:
        raise KeyHeld("an event was appended under a key that is held") from error
    db.executemany(
        ADD_EVENT,
        (
            (
                seq,
                event.received_at,
                event.key,
                event.digest,
                topics[event.topic],
                event.event_id,
                timestamp.moment(event.timestamp),
                event.timestamp,
                event.source,
                event.payload,
            )
            for seq, event in zip(seqs, events, strict=True)
        ),
    )
    db.execute(SET_LAST_SEQ, (first + len(events) - 1,))
    return seqs


def _topic_id(db: sqlite3.Connection, name: str) -> int:
    db.execute(ADD_TOPIC, (name,))
    topic_id: int = db.execute(FIND_TOPIC, (name,)).fetchone()[0]
    return topic_id


def _record(db: sqlite3.Connection, sightings: Sequence[Sighting]) -> None:
    db.executemany(
        ADD_SIGHTING,
        (
            (seen.seq, seen.source, int(not seen.is_conflict), int(seen.is_conflict), seen.seen_at)
            for seen in sightings
        ),
    )


def _count(db: sqlite3.Connection, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
    new_topics = 0
    for topic, counts in by_topic.items():
        added = (counts.stored, counts.duplicate, counts.conflict, topic)
        row = db.execute(COUNT_TOPIC, added).fetchone()
        new_topics += bool(counts.stored and row[0] == counts.stored)
    totals = db.execute(
        COUNT,
        (
            counted.stored,
            counted.duplicate,
            counted.conflict,
            counted.invalid,
            counted.filtered,
            counted.refused,
            new_topics,
        ),
    ).fetchone()
    return Counters(*totals)
