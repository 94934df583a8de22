"""The writing side: one transaction on the one connection that writes."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aggregator.event import Event
from aggregator.store import Content, Counters, Holder, Quarantined, Sighting, StoreTransaction
from aggregator_sqlite import history, quarantine, writing
from aggregator_sqlite.fields import Pointers
from aggregator_sqlite.index import Index
from aggregator_sqlite.keys import Keys
from aggregator_sqlite.thread import Thread

R = TypeVar("R")


class SqliteTransaction(StoreTransaction):
    """Begins with the first call. Each call is one hop to the writer's thread."""

    def __init__(self, writer: Thread, index: Index, pointers: Pointers) -> None:
        self._writer = writer
        self._keys = Keys(index)
        self._pointers = pointers
        self._begun = False

    async def claim(self, keys: Sequence[bytes]) -> list[Holder | None]:
        """The holder of each key. The writer's lock, held from the start, keeps rivals waiting."""
        return await self._call(writing.claim, self._keys, keys)

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        """The contents of the first of these events."""
        return await self._call(writing.contents, seqs)

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store events under the next seqs, and index their keys and fields."""
        return await self._call(writing.append, self._keys, events, self._pointers)

    async def record(self, sightings: Sequence[Sighting]) -> None:
        """Add to the history of each event."""
        await self._call(history.record, sightings)

    async def quarantine(self, entries: Sequence[Quarantined]) -> None:
        """Put these into quarantine."""
        await self._call(quarantine.take, entries)

    async def drop(self, ids: Sequence[int]) -> None:
        """Take these out of quarantine."""
        await self._call(quarantine.drop, ids)

    async def evict(self, before: int, most: int) -> int:
        """Take out of quarantine what is too old or too much."""
        return await self._call(quarantine.evict, before, most)

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> Counters:
        """Add to the counters."""
        return await self._call(writing.count, counted, by_topic)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undone alone when the block raises."""
        await self._call(_savepoint)
        mark = self._keys.mark
        try:
            yield
        except BaseException:
            await self._call(_undo_savepoint)
            self._keys.undo(mark)
            raise
        await self._call(_release_savepoint)

    async def commit(self) -> None:
        """Make it durable: one fsync."""
        if self._begun:
            await self._writer.run(_commit, self._keys)

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


def _commit(db: sqlite3.Connection, keys: Keys) -> None:
    keys.commit(db)


def _roll_back(db: sqlite3.Connection) -> None:
    db.rollback()


def _savepoint(db: sqlite3.Connection) -> None:
    db.execute("SAVEPOINT part")


def _undo_savepoint(db: sqlite3.Connection) -> None:
    db.execute("ROLLBACK TO part")
    db.execute("RELEASE part")


def _release_savepoint(db: sqlite3.Connection) -> None:
    db.execute("RELEASE part")
