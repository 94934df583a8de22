"""A transaction, from BEGIN to COMMIT, on the one connection that writes."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from threading import Event as Signal
from typing import Any, TypeVar

from aggregator.errors import StoreError, StoreFault
from aggregator.event import Event
from aggregator.store import (
    Content,
    Counters,
    HistoryTransaction,
    KeyOwner,
    Quarantined,
    QuarantineTransaction,
    Redelivery,
)
from aggregator_sqlite import fields, quarantine, read, write
from aggregator_sqlite.connection import SqliteThread, call_translating_errors
from aggregator_sqlite.fields import Pointers
from aggregator_sqlite.key_index import KeyClaims, KeyIndex
from aggregator_sqlite.write import EncodedBatch

log = logging.getLogger(__name__)

_HEAD_START = 0.002  # seconds; no more, since SQLite may be waiting for a lock

R = TypeVar("R")
_Call = tuple[Callable[..., object], tuple[Any, ...]]


class SqliteTransaction(HistoryTransaction, QuarantineTransaction):
    """Takes one hop to the writer's thread for each call that reads, and one to commit.

    Calls that only write are deferred to the next hop; BEGIN is part of the first. Mostly the key
    filter tells without a hop that keys are new, so that most batches take one hop, the commit.
    """

    def __init__(self, writer: SqliteThread, index: KeyIndex, pointers: Pointers) -> None:
        self._writer = writer
        self._index = index
        self._claims = KeyClaims(index)
        self._pointers = pointers
        self._deferred: list[_Call] = []
        self._begun = False
        self._error: StoreError | None = None

    def claim(self, keys: Sequence[bytes]) -> Awaitable[list[KeyOwner | None]]:
        """The event that holds each key. No rivals to wait for: transactions come one at a time."""
        unknown = self._claims.to_look_up(keys)
        return self._owners(keys, unknown) if unknown else _resolved([None] * len(keys))

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events."""
        return await self._call(read.contents, seqs, self._claims.unreadable)

    def append(self, events: Sequence[Event]) -> Awaitable[list[int]]:
        """Store events under the next seqs, and index their keys and fields."""
        keys = [event.key for event in events]
        unknown = self._claims.to_look_up(keys)
        if unknown or self._pointers:
            return self._append_and_wait(keys, unknown, events)
        return _resolved(self._append(keys, events))

    async def record(self, redeliveries: Sequence[Redelivery]) -> None:
        """Count what came again under the keys of stored events."""
        self._defer(write.record, redeliveries)

    async def quarantine(self, entries: Sequence[Quarantined]) -> None:
        """Add these to quarantine."""
        self._defer(quarantine.add, entries)

    async def drop(self, ids: Sequence[int]) -> None:
        """Remove these from quarantine."""
        self._defer(quarantine.drop, ids)

    async def evict(self, before: int, most: int) -> int:
        """Remove what is too old, then the oldest beyond `most` bytes."""
        return await self._call(quarantine.evict, before, most)

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        """Add to the counters."""
        self._defer(self._count, counted, by_topic)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undone alone when the block raises."""
        self._defer(_savepoint)
        appended = self._claims.appended
        try:
            yield
        except BaseException:
            self._defer(_undo_savepoint)
            self._claims.undo_to(appended)
            raise
        self._defer(_release_savepoint)

    async def commit(self) -> None:
        """Commit durably, with one fsync. After a failure the store has to be reopened."""
        if not self._begun and not self._deferred:
            return
        self._index.begin_commit()
        is_ready = Signal()
        committing = self._submit(_commit, self._index, self._claims.entries, is_ready)
        self._error = _over()
        committing.add_done_callback(self._claims.add_to_index)
        # Wait here, blocking the event loop for at most _HEAD_START, until the writer's thread is
        # at COMMIT, where it releases Python's lock (the GIL). Otherwise both threads would compete
        # for it, and the fsync would start later.
        is_ready.wait(_HEAD_START)
        self._claims.sort_entries()
        await self._result(asyncio.shield(committing))

    async def roll_back(self) -> None:
        """Undo everything, after the calls that are still in flight."""
        self._error = _over()
        if self._begun:
            await self._writer.run(_roll_back)

    async def _owners(
        self, keys: Sequence[bytes], unknown: Collection[bytes]
    ) -> list[KeyOwner | None]:
        owners = await self._call(write.owners, self._claims, unknown)
        return [owners.get(key) for key in keys]

    async def _append_and_wait(
        self, keys: Sequence[bytes], unknown: Collection[bytes], events: Sequence[Event]
    ) -> list[int]:
        if unknown:
            await self._owners(keys, unknown)
        seqs = self._append(keys, events)
        if self._pointers:
            await self._call(fields.add, self._pointers, list(zip(seqs, events, strict=True)))
        return seqs

    def _append(self, keys: Sequence[bytes], events: Sequence[Event]) -> list[int]:
        if self._error:
            raise self._error
        if not events:
            return []
        batch = EncodedBatch.of(self._claims.next_seq, events)
        seqs = self._claims.assign_seqs(keys, batch.names)
        self._defer(write.append, batch)
        return seqs

    def _count(
        self, db: sqlite3.Connection, counted: Counters, by_topic: Mapping[str, Counters]
    ) -> None:
        self.counters = write.count(db, counted, by_topic)

    def _defer(self, function: Callable[..., object], *args: Any) -> None:
        self._deferred.append((function, args))

    async def _call(self, function: Callable[..., R], *args: Any) -> R:
        """Run what was deferred, and then this."""
        return await self._result(self._submit(function, *args))

    def _submit(self, function: Callable[..., R], *args: Any) -> asyncio.Future[R]:
        if self._error:
            raise self._error
        before, self._deferred = self._deferred, []
        if not self._begun:
            before.insert(0, (_begin, ()))
        self._begun = True
        return self._writer.submit(_run_deferred, before, function, *args)

    async def _result(self, call: asyncio.Future[R]) -> R:
        try:
            return await call
        except StoreError as error:
            self._error = error
            raise


def _over() -> StoreError:
    return StoreError("the transaction is over")


def _resolved(value: R) -> asyncio.Future[R]:
    future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def _run_deferred(
    db: sqlite3.Connection, before: Sequence[_Call], function: Callable[..., R], *args: Any
) -> R:
    """Run the deferred calls, then the function.

    Any error of a deferred call is the store's: it is not the fault of whoever calls now.
    """
    for earlier, its_args in before:
        try:
            call_translating_errors(earlier, db, *its_args)
        except StoreError:
            raise
        except Exception as error:
            log.exception("a call that was put off has failed")
            raise StoreFault(f"{earlier.__name__.strip('_')}: {error}") from error
    return call_translating_errors(function, db, *args)


def _begin(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")  # the write lock at once: no other program writes in between


def _commit(db: sqlite3.Connection, index: KeyIndex, entries: int, is_ready: Signal) -> None:
    state = index.prepare_commit(db, entries)
    is_ready.set()
    db.execute("COMMIT")  # appends to the log and syncs it: synchronous = FULL, see connection.py
    index.committed(state)


def _roll_back(db: sqlite3.Connection) -> None:
    db.rollback()


def _savepoint(db: sqlite3.Connection) -> None:
    db.execute("SAVEPOINT part")


def _undo_savepoint(db: sqlite3.Connection) -> None:
    db.execute("ROLLBACK TO part")
    db.execute("RELEASE part")


def _release_savepoint(db: sqlite3.Connection) -> None:
    db.execute("RELEASE part")
