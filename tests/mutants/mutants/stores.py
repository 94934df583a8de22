"""Stores that are SQLite's but for one mistake, each one that somebody has made in earnest."""

import asyncio
import re
import sqlite3
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

from msgspec import structs

from aggregator.errors import StoreError
from aggregator.event import Event
from aggregator.store import Counters, KeyOwner, Span, StoreTransaction
from aggregator_sqlite import blocks, key_index, runs, sums
from aggregator_sqlite.key_index import KeyIndex
from aggregator_sqlite.runs import Run
from aggregator_sqlite.store import SqliteStore
from aggregator_sqlite.transaction import SqliteTransaction

LATE = 0.05  # seconds
LONG = 0.5  # seconds


class Mutant(SqliteStore):
    """`NAME:///…` keeps everything in a SQLite file, as `sqlite:///…` does."""

    def __init__(self, url: str) -> None:
        super().__init__(f"sqlite:{url.partition(':')[2]}")


class Around:
    """A transaction that does what another one does."""

    def __init__(self, tx: StoreTransaction) -> None:
        self.tx = tx

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self.tx.__class__

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tx, name)


class ClaimsFirst(Mutant):
    """`claims-first:///…` commits the keys by themselves, before the events are committed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.claims: sqlite3.Connection

    async def open(self, *given: Any, **named: Any) -> None:
        await super().open(*given, **named)
        self.claims = sqlite3.connect(f"{self.path}.claims", isolation_level=None)
        self.claims.execute("CREATE TABLE IF NOT EXISTS claims (key PRIMARY KEY, seq, digest, at)")

    async def close(self) -> None:
        self.claims.close()
        await super().close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        async with super().transaction() as tx:
            yield cast("StoreTransaction", ClaimingFirst(tx, self.claims))


class ClaimingFirst(Around):
    def __init__(self, tx: StoreTransaction, claims: sqlite3.Connection) -> None:
        super().__init__(tx)
        self.claims = claims

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        ask = "SELECT seq, digest, at FROM claims WHERE key = ?"
        rows = [self.claims.execute(ask, (key,)).fetchone() for key in keys]
        return [KeyOwner(*row) if row else None for row in rows]

    async def append(self, events: Sequence[Event]) -> list[int]:
        seqs = await self.tx.append(events)
        self.claims.executemany(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)",
            [
                (event.key, seq, event.digest, event.received_at)
                for event, seq in zip(events, seqs, strict=True)
            ],
        )
        return seqs


class KeysApart(Mutant):
    """`keys-apart:///…` commits the keys in the same file, before the events."""

    async def open(self, *given: Any, **named: Any) -> None:
        await super().open(*given, **named)
        assert self._writer
        await self._writer.run(
            sqlite3.Connection.execute,
            "CREATE TABLE IF NOT EXISTS claims (key PRIMARY KEY, seq, digest, at)",
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        async with super().transaction() as tx:
            yield cast("StoreTransaction", StoringApart(tx))


class StoringApart(Around):
    tx: SqliteTransaction

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        return await self.tx._call(claimed, keys)

    async def append(self, events: Sequence[Event]) -> list[int]:
        await self.tx._call(claim_apart, events)
        return await self.tx.append(events)


def claimed(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[KeyOwner | None]:
    ask = "SELECT seq, digest, at FROM claims WHERE key = ?"
    rows = [db.execute(ask, (key,)).fetchone() for key in keys]
    return [KeyOwner(*row) if row else None for row in rows]


def claim_apart(db: sqlite3.Connection, events: Sequence[Event]) -> None:
    first = db.execute(key_index.LAST_SEQ).fetchone()[0] + 1
    db.executemany(
        "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)",
        [
            (event.key, seq, event.digest, event.received_at)
            for seq, event in enumerate(events, first)
        ],
    )
    db.execute("COMMIT")
    db.execute("BEGIN IMMEDIATE")


class SkipsFsync(Mutant):
    """`skips-fsync:///…` commits without one, as many programs have SQLite do."""

    async def _open_writer(self, *given: Any) -> None:
        await super()._open_writer(*given)
        assert self._writer
        await self._writer.run(sqlite3.Connection.execute, "PRAGMA synchronous = NORMAL")


class AnswersEarly(Mutant):
    """`answers-early:///…` says that it has committed events, and does it a little later."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.commit: asyncio.Task[None] | None = None

    async def close(self) -> None:
        await self.settle()
        await super().close()

    async def settle(self) -> None:
        if self.commit:
            await self.commit
        self.commit = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        await self.settle()
        transaction = super().transaction()
        tx = await transaction.__aenter__()
        assert isinstance(tx, SqliteTransaction)
        try:
            yield tx
            await tx._call(_nothing)  # so that all is written, and `counters` known
        except BaseException as error:
            await transaction.__aexit__(type(error), error, None)
            raise
        if tx._claims.appended:
            self.commit = asyncio.create_task(late(transaction))
        else:  # nothing was stored: to lose numbers alone would break another promise
            await transaction.__aexit__(None, None, None)


def _nothing(_: sqlite3.Connection) -> None:
    pass


async def late(transaction: AbstractAsyncContextManager[StoreTransaction]) -> None:
    await asyncio.sleep(LATE)
    await transaction.__aexit__(None, None, None)


class ForgetsCounters(Mutant):
    """`forgets-counters:///…` counts in memory, and writes the numbers down when it is closed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.kept: list[tuple[Counters, Mapping[str, Counters]]] = []

    async def counters(self) -> Counters:
        return added(await super().counters(), self.kept)

    async def close(self) -> None:
        if self._writer:
            async with super().transaction() as tx:
                for counted in self.kept:
                    await tx.count(*counted)
        await super().close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        async with super().transaction() as tx:
            yield cast("StoreTransaction", CountingInMemory(tx, self))


class CountingInMemory(Around):
    def __init__(self, tx: StoreTransaction, store: ForgetsCounters) -> None:
        super().__init__(tx)
        self.store = store

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        self.store.kept.append((counted, by_topic))
        await self.tx.count(Counters(), {})

    @property
    def counters(self) -> Counters:
        return added(self.tx.counters, self.store.kept)


def added(counters: Counters, kept: Sequence[tuple[Counters, object]]) -> Counters:
    for counted, _ in kept:
        more = structs.asdict(counted)
        summed_up = {name: getattr(counters, name) + number for name, number in more.items()}
        counters = Counters(**summed_up)
    return counters


class ForgetsKeys(Mutant):
    """`forgets-keys:///…` has its keys only in memory, as far as a restart can tell."""

    async def open(self, *given: Any, **named: Any) -> None:
        await super().open(*given, **named)
        assert self._writer
        await self._writer.run(forget)
        self._index = await self._writer.run(KeyIndex, self._filter, self._unreadable)


class ForgetsInTheEnd(Mutant):
    """`forgets-in-the-end:///…` forgets its keys when it is closed in good order."""

    async def close(self) -> None:
        if self._writer:
            await self._writer.run(forget)
        await super().close()


class MovesCounts(Mutant):
    """`moves-counts:///…` counts everything on its first topic when it is opened."""

    async def open(self, *given: Any, **named: Any) -> None:
        await super().open(*given, **named)
        assert self._writer
        await self._writer.run(move_counts)


def move_counts(db: sqlite3.Connection) -> None:
    """All but one that is stored on each of the others: a start looks at how many topics have some.

    Their checksums fit, so that it is for others to find out.
    """
    every = sums.rows(db, "SELECT * FROM topics ORDER BY id")
    for name, left in (("stored", 1), ("duplicate", 0), ("conflict", 0)):
        moved = sum(row[name] - left for row in every[1:])
        for place, row in enumerate(every):
            row[name] = left if place else row[name] + moved
    for row in every:
        row["checksum"] += sums.TOPIC.difference(row, sums.over(row["name"])) or 0
    change = """
        UPDATE topics SET stored = :stored, duplicate = :duplicate, conflict = :conflict,
            checksum = :checksum
        WHERE id = :id
    """
    db.executemany(change, every)


class ShiftsTimes(Mutant):
    """`shifts-times:///…` has another time zone after each start."""

    async def open(self, *given: Any, **named: Any) -> None:
        await super().open(*given, **named)
        assert self._writer
        await self._writer.run(move_an_hour_on)


def move_an_hour_on(db: sqlite3.Connection) -> None:
    for first, events in db.execute("SELECT first_seq, events FROM blocks").fetchall():
        later = re.sub(rb"(?<=\[)\d{16}", lambda at: b"%d" % (int(at[0]) + 3_600_000_000), events)
        db.execute("UPDATE blocks SET events = ? WHERE first_seq = ?", (later, first))
        db.execute(
            "UPDATE blocks SET checksums = ? WHERE first_seq = ?", (summed(db, first), first)
        )


def summed(db: sqlite3.Connection, first: int) -> bytes:
    """The checksums that fit the events of that block as they stand."""
    block = blocks.read(db, first)
    assert block
    texts, sizes = zip(*map(block._text, block.seqs), strict=True)
    keys, digests = map(block.key, block.seqs), map(block.digest, block.seqs)
    found = blocks.checksums(first, texts, list(keys), list(digests), sizes)
    return struct.pack(f"<{len(texts)}I", *found)


class ForgetsHistory(Mutant):
    """`forgets-history:///…` knows of what came again only since its last start."""

    async def open(self, *given: Any, **named: Any) -> None:
        await super().open(*given, **named)
        assert self._writer
        for statement in ("DELETE FROM redeliveries", "DELETE FROM conflicting_contents"):
            await self._writer.run(sqlite3.Connection.execute, statement)


class StowsAway(Mutant):
    """`stows-away:///…` takes its events out of the file for a moment when it is closed."""

    async def close(self) -> None:
        if self._writer:
            await self._writer.run(stow_away)
            await asyncio.sleep(LONG)
            await self._writer.run(put_back)
        await super().close()


def stow_away(db: sqlite3.Connection) -> None:
    db.execute("CREATE TEMP TABLE stowed AS SELECT * FROM blocks")
    db.execute("DELETE FROM blocks")


def put_back(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO blocks SELECT * FROM stowed")


class KeepsRefused(Mutant):
    """`keeps-refused:///…` stores what is to be undone: a strict submission that is refused."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        async with super().transaction() as tx:
            yield cast("StoreTransaction", UndoingNothing(tx))


class UndoingNothing(Around):
    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        failed: BaseException | None = None
        async with self.tx.savepoint():
            try:
                yield
            except BaseException as error:
                failed = error
        if failed:
            raise failed


class NeedsRepair(Mutant):
    """`needs-repair:///…` marks its file as open, and believes the mark after a kill."""

    async def open(self, *given: Any, **named: Any) -> None:
        try:
            self.mark.touch(exist_ok=False)
        except FileExistsError as error:
            raise StoreError(f"remove {self.mark}, if nothing else has the store open") from error
        await super().open(*given, **named)

    async def close(self) -> None:
        await super().close()
        self.mark.unlink(missing_ok=True)

    @property
    def mark(self) -> Path:
        return Path(f"{self.path}.open")


class Chatty(Mutant):
    """`chatty:///…` breaks nothing, and prints more than a pipe holds."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        print("hello")

    async def open(self, *given: Any, **named: Any) -> None:
        await super().open(*given, **named)
        print("hello " * 20)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        print("hello " * 10_000, flush=True)
        async with super().transaction() as tx:
            yield tx


class SmallRuns(Mutant):
    """`small-runs:///…` breaks nothing, and makes and merges runs of keys all the time."""

    def grow_early(self) -> None:
        key_index.KEYS_IN_MEMORY, runs.RUNS_PER_LEVEL, runs.KEYS_PER_STEP = 5, 2, 7


class TellsAhead(Mutant):
    """`tells-ahead:///…` says that there are newer events than it shows."""

    async def span(self) -> Span:
        span = await super().span()
        return structs.replace(span, newest=span.newest + 2 if span.newest else 0)


def forget(db: sqlite3.Connection) -> None:
    last = db.execute(key_index.LAST_SEQ).fetchone()[0]
    db.execute("DELETE FROM runs")
    db.execute("DELETE FROM run_pages")
    Run(1, upto=last).finish(db)
