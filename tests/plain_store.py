"""The plainest store there is: one table, a UNIQUE key, and nothing to make it quick.

It does only what every store must. What other stores do is held against it, since that it is
correct can be seen by reading.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from msgspec import structs

from aggregator.core import timestamp
from aggregator.core.identity import PayloadKind
from aggregator.errors import KeyHeld, KeySpecDiffers
from aggregator.event import Event
from aggregator.store import (
    CONTENTS_BYTES,
    PAGE_BYTES,
    Content,
    Counters,
    KeyOwner,
    NewestSeq,
    Page,
    Query,
    Span,
    Store,
    StoredEvent,
    StoreTransaction,
    Topic,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, received_at INTEGER, topic TEXT, event_id TEXT, timestamp TEXT,
    source TEXT, payload BLOB, key BLOB NOT NULL UNIQUE, digest BLOB, payload_kind INTEGER,
    attributes BLOB, name BLOB
);
CREATE TABLE IF NOT EXISTS counts (  -- a row each time; those of all topics together have none
    topic TEXT, stored INTEGER, duplicate INTEGER, conflict INTEGER, invalid INTEGER,
    filtered INTEGER, refused INTEGER, failed_async INTEGER
);
CREATE TABLE IF NOT EXISTS kept (key_spec TEXT);
"""
ADD = "INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
HOLDER = "SELECT seq, digest, received_at FROM events WHERE key = ?"
CONTENT = "SELECT source, payload, payload_kind FROM events WHERE seq = ?"
FORWARD = "SELECT * FROM events WHERE seq > ? ORDER BY seq"
BACKWARD = "SELECT * FROM events WHERE seq < ? ORDER BY seq DESC"
FIND = """
SELECT * FROM events WHERE (key = :name OR name = :name) AND source = coalesce(:source, source)
ORDER BY seq LIMIT :limit
"""
COUNT = """
INSERT INTO counts SELECT :topic, :stored, :duplicate, :conflict, :invalid, :filtered, :refused,
    :failed_async
WHERE :topic IS NULL OR EXISTS (SELECT * FROM events WHERE topic = :topic)
"""
COUNTERS = """
SELECT total(stored), total(duplicate), total(conflict), total(invalid), total(filtered),
    total(refused), total(failed_async),
    (SELECT count(DISTINCT topic) FROM counts WHERE topic IS NOT NULL AND stored > 0)
FROM counts WHERE topic IS NULL
"""
TOPICS = """
WITH counted AS (
    SELECT topic AS name, sum(stored) AS stored, sum(duplicate), sum(conflict) FROM counts
    WHERE topic > ? GROUP BY topic
), ends AS (
    SELECT topic AS name, min(seq) AS first_seq, max(seq) AS last_seq FROM events GROUP BY topic
)
SELECT counted.*, first_seq, first.received_at, last_seq, last.received_at
FROM counted JOIN ends USING (name)
JOIN events AS first ON first.seq = first_seq
JOIN events AS last ON last.seq = last_seq
WHERE counted.stored > 0 ORDER BY name LIMIT ?
"""

EXAMINED = 1000  # events that one page examines at most


class PlainStore(Store):
    """`plain:/a/file`, opened by one process, which nobody sees to. Calls block the event loop."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._path = Path(url.partition(":")[2])
        self._lock = asyncio.Lock()
        self._newest = NewestSeq()
        self._writer: Any = None  # connections
        self._reader: Any = None  # one of its own: it sees nothing but what is committed

    async def key_spec(self) -> str | None:
        if not self._path.exists():
            return None
        with closing(self._connect()) as db:
            return _key_spec(db)

    async def open(self, key_spec: str, replaces: str | None = None) -> None:
        self._writer, self._reader = self._connect(), self._connect()
        self._writer.execute("PRAGMA journal_mode = WAL")  # or readers wait for writers
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.executescript(SCHEMA)
        kept = _key_spec(self._writer)
        if kept not in (None, key_spec, replaces):
            raise KeySpecDiffers(str(kept), key_spec)
        self._writer.execute("DELETE FROM kept")
        self._writer.execute("INSERT INTO kept VALUES (?)", (key_spec,))
        self._newest.advance((await self.span()).newest)

    async def reopen(self) -> None:
        async with self._lock:
            key_spec = str(_key_spec(self._reader))
            await self.close()
            await self.open(key_spec)

    async def close(self) -> None:
        for connection in filter(None, (self._reader, self._writer)):
            connection.close()
        self._reader = self._writer = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["PlainTransaction"]:
        async with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                tx = PlainTransaction(self._writer)
                yield tx
                tx.counters = _counters(self._writer)
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.rollback()
                raise
        self._newest.advance((await self.span()).newest)

    async def events(self, query: Query) -> Page:
        start = query.after
        if start is None:
            start = 2**63 - 1 if query.descending else 0
        statement = BACKWARD if query.descending else FORWARD
        with closing(self._reader.execute(statement, (start,))) as rows:
            return _page(query, map(_event, rows))

    async def find(self, name: bytes, limit: int, source: str | None = None) -> list[StoredEvent]:
        wanted = {"name": name, "source": source, "limit": limit}
        return [_event(row) for row in self._reader.execute(FIND, wanted)]

    async def span(self) -> Span:
        ends = self._reader.execute("SELECT min(seq), max(seq) FROM events").fetchone()
        return Span(*(seq or 0 for seq in ends))

    async def counters(self) -> Counters:
        return _counters(self._reader)

    async def topics(self, after: str, limit: int) -> list[Topic]:
        return [Topic(*row) for row in self._reader.execute(TOPICS, (after, limit))]

    async def changed(self, after: int) -> int:
        return await self._newest.wait(after)

    def about(self) -> str:
        return f"a plain store in {self._path}"

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None)


class PlainTransaction(StoreTransaction):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        found = (self._db.execute(HOLDER, (key,)).fetchone() for key in keys)
        return [KeyOwner(*row) if row else None for row in found]

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        contents: list[Content] = []
        size = 0
        for seq in seqs:
            source, payload, kind = self._db.execute(CONTENT, (seq,)).fetchone()
            contents.append(Content(source, payload, PayloadKind(kind)))
            size += len(payload)
            if size >= CONTENTS_BYTES:
                break
        return contents

    async def append(self, events: Sequence[Event]) -> list[int]:
        try:
            with _savepoint(self._db):
                return [self._db.execute(ADD, _row(event)).lastrowid or 0 for event in events]
        except sqlite3.IntegrityError as error:
            raise KeyHeld("an event was appended under a key that is held") from error

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        for topic, counts in ((None, counted), *by_topic.items()):
            self._db.execute(COUNT, {"topic": topic, **structs.asdict(counts)})

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        with _savepoint(self._db):
            yield


@contextmanager
def _savepoint(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK TO part")
        raise
    finally:
        db.execute("RELEASE part")


def _key_spec(db: sqlite3.Connection) -> str | None:
    (kept,) = db.execute("SELECT max(key_spec) FROM kept").fetchone()
    return str(kept) if kept else None


def _counters(db: sqlite3.Connection) -> Counters:
    return Counters(*map(int, db.execute(COUNTERS).fetchone()))


def _row(event: Event) -> tuple[object, ...]:
    """As `events` has it, but for the seq."""
    return (
        event.received_at,
        event.topic,
        event.event_id,
        event.timestamp or None,
        event.source,
        event.payload,
        event.key,
        event.digest,
        event.payload_kind.value,
        event.attributes,
        event.name or None,
    )


def _event(row: Sequence[Any]) -> StoredEvent:
    *members, kind, attributes, _ = row
    return StoredEvent(*members, PayloadKind(kind), attributes)


def _page(query: Query, events: Iterable[StoredEvent]) -> Page:
    """The events among these that match. Ends also where it has looked at enough of them."""
    found: list[StoredEvent] = []
    examined = size = last = 0
    for event in events:
        if len(found) == query.limit or examined == EXAMINED or size >= PAGE_BYTES:
            return Page(found, last)
        examined, size, last = examined + 1, size + len(event.payload or b""), event.seq
        if _matches(query, event):
            found.append(event)
    return Page(found, None)


def _matches(query: Query, event: StoredEvent) -> bool:
    time = timestamp.try_parse(event.timestamp or "")
    return (
        query.topic in (None, event.topic)
        and query.source in (None, event.source)
        and _is_within(query.received_since, event.received_at, query.received_until)
        and _is_within(query.since, time, query.until)
        and (query.field is None or query.field.is_in(event.payload, event.payload_kind))
    )


def _is_within(since: int | None, time: int | None, until: int | None) -> bool:
    if time is None:
        return since is until is None
    return (since is None or since <= time) and (until is None or time < until)
