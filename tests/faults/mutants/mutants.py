"""Stores that are broken on purpose. Each breaks a promise, and a test must find that out."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from aggregator.event import Event
from aggregator.store import StoreTransaction
from aggregator_sqlite import writing
from aggregator_sqlite.fields import Pointers
from aggregator_sqlite.store import SqliteStore
from aggregator_sqlite.transaction import SqliteTransaction


class Mutant(SqliteStore):
    """A store in a SQLite file, with a scheme and transactions of its own."""

    kind = SqliteTransaction

    def __init__(self, url: str) -> None:
        super().__init__("sqlite:" + url.partition(":")[2])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        """As the store does it that is not broken."""
        async with self._turn:
            assert self._writer
            tx = self.kind(self._writer, self._pointers)
            try:
                yield tx
                await tx.commit()
            except BaseException:
                await tx.roll_back()
                raise


class Sloppy(Mutant):
    """`sloppy:///…` commits without an fsync, as SQLite does by itself in many places."""

    async def _open_writer(self, *arguments: Any) -> None:
        await super()._open_writer(*arguments)
        assert self._writer
        await self._writer.run(sqlite3.Connection.execute, "PRAGMA synchronous = NORMAL")


class HastyTransaction(SqliteTransaction):
    """Its commit has only begun when the answer is sent."""

    async def commit(self) -> None:
        self._committing = asyncio.create_task(super().commit())


class Hasty(Mutant):
    """`hasty:///…` answers before the commit."""

    kind = HastyTransaction


class TwofoldTransaction(SqliteTransaction):
    """Claims the keys in a commit of its own."""

    async def append(self, events: Sequence[Event]) -> list[int]:
        return await self._call(_append, events, self._pointers)


class Twofold(Mutant):
    """`twofold:///…` stores keys and events in two transactions."""

    kind = TwofoldTransaction


def _append(db: sqlite3.Connection, events: Sequence[Event], pointers: Pointers) -> list[int]:
    keys = [event.key for event in events]
    first = db.execute(writing.LAST_SEQ).fetchone()[0] + 1
    db.executemany(writing.ADD_KEY, zip(keys, count(first)))
    db.execute("COMMIT")
    db.execute("BEGIN IMMEDIATE")
    db.executemany("DELETE FROM keys WHERE key = ?", ((key,) for key in keys))
    return writing.append(db, events, pointers)
