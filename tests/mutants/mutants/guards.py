"""Stores and queues that lack one of the guards of those that they are made of."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aggregator.store import Backup
from aggregator_memory.queue import MemoryQueue
from aggregator_memory.store import MemoryStore, MemoryTransaction, Uncommitted
from aggregator_sqlite.files import WriterLock
from aggregator_sqlite.key_index import KeyIndex
from aggregator_sqlite.wal import WriteAheadLog
from mutants.stores import Mutant


class TakesNoLock(Mutant):
    """`takes-no-lock:///…` keeps no second process off its file."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._lock = NoLock(self.path)


class NoLock(WriterLock):
    def take(self) -> None:
        pass


class GoesOn(Mutant):
    """`goes-on:///…` takes a commit that failed for undone, and does not open the file again."""

    async def reopen(self) -> None:
        assert self._writer
        self._index = await self._writer.run(KeyIndex, self._filter, self._unreadable)


class TrustsItsLog(Mutant):
    """`trusts-its-log:///…` leaves it to SQLite what to make of a damaged log."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._wal = NoCheck(self.path)


class NoCheck(WriteAheadLog):
    def check(self) -> None:
        pass


class CopiesTheFile(Mutant):
    """`copies-the-file:///…` makes backups as `cp` does, without what is in the log."""

    async def backup(self, destination: Path) -> Backup:
        shutil.copy(self.path, destination)
        return Backup(events=0, stored=0, last_seq=0, size=self.path.stat().st_size)


class InMemory(MemoryStore):
    """`NAME:` keeps everything in memory, as `memory:` does."""

    def __init__(self, url: str) -> None:
        super().__init__("memory:")


class SinksNeighbours(InMemory):
    """`sinks-neighbours:` undoes the whole transaction where it should undo a savepoint."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._transaction_lock:
            tx = Sinking(self._committed)
            yield tx
            tx.commit()


class Sinking(MemoryTransaction):
    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            self._uncommitted = Uncommitted(self._committed.counters, self._committed.quarantine)
            raise


class TwoAtOnce(InMemory):
    """`two-at-once:` has transactions run beside each other: both give the next seq."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        tx = MemoryTransaction(self._committed)
        yield tx
        tx.commit()


class TakesAll(MemoryQueue):
    """`takes-all:` has no bound."""

    def __init__(self, _: str, __: int) -> None:
        super().__init__("memory:", 10**9)
