"""Stores that raise what no contract knows, or ask for another try, where they are told to."""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from aggregator.errors import TryAgain
from aggregator.event import Event
from aggregator.store import (
    Content,
    Counters,
    KeyOwner,
    NewestSeq,
    Quarantined,
    Redelivery,
    Store,
    StoreTransaction,
)
from aggregator_memory.store import Committed, MemoryStore, MemoryTransaction


class InterfaceError(Exception):
    """As drivers have them: of no base that anybody else knows."""


class StumblingTransaction(MemoryTransaction):
    def __init__(self, committed: Committed, store: "StumblingStore") -> None:
        super().__init__(committed)
        self._store = store

    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        self._store.reach("claim")
        return await super().claim(keys)

    async def append(self, events: Sequence[Event]) -> list[int]:
        self._store.reach("append")
        if any(event.source == "poison" for event in events):
            raise InterfaceError("cannot encode this")
        return await super().append(events)

    async def record(self, redeliveries: Sequence[Redelivery]) -> None:
        self._store.reach("record")
        await super().record(redeliveries)

    async def quarantine(self, entries: Sequence[Quarantined]) -> None:
        self._store.reach("quarantine")
        await super().quarantine(entries)

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        self._store.reach("count")
        await super().count(counted, by_topic)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        self._store.reach("savepoint")
        async with super().savepoint():
            yield
        self._store.reach("release")


class StumblingStore(MemoryStore):
    """`stumbles:` raises at each point as often as `left` says, and what `error` says."""

    left: ClassVar[dict[str, int]] = {}
    error: ClassVar[type[Exception]] = InterfaceError

    def __init__(self, url: str) -> None:
        super().__init__("memory:")
        self.left.clear()

    def reach(self, point: str) -> None:
        if self.left.get(point, 0):
            self.left[point] -= 1
            raise self.error(f"{point} stumbled")

    async def reopen(self) -> None:
        self.reach("reopen")

    async def counters(self) -> Counters:
        self.reach("counters")
        return await super().counters()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        async with self._transaction_lock:
            self.reach("begin")
            tx = StumblingTransaction(self._committed, self)
            yield tx
            self.reach("commit")
            tx.commit()
        self._newest.advance(len(self._committed.events))


class NotAsItSays(MemoryStore):
    """`says:` has transactions that can do less than it says."""

    def __init__(self, url: str) -> None:
        super().__init__("memory:")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with super().transaction() as tx:
            least = _Least(tx)
            yield least
        least.counters = tx.counters


class _Least(StoreTransaction):
    def __init__(self, tx: MemoryTransaction) -> None:
        self._tx = tx

    def claim(self, keys: Sequence[bytes]) -> Awaitable[list[KeyOwner | None]]:
        return self._tx.claim(keys)

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        return await self._tx.contents(seqs)

    def append(self, events: Sequence[Event]) -> Awaitable[list[int]]:
        return self._tx.append(events)

    async def count(self, counted: Counters, by_topic: Mapping[str, Counters]) -> None:
        await self._tx.count(counted, by_topic)

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        return self._tx.savepoint()


class AsksForAnotherTry(StumblingStore):
    """`again:` has rolled back, where it raises."""

    error = TryAgain


_ONE = MemoryStore("memory:")


class SharedStore(MemoryStore):
    """`shared:` is one store, whoever opens it in this process: as if two processes had it open."""

    is_shared = True

    def __init__(self, url: str) -> None:
        super().__init__("memory:")
        self._committed = _ONE._committed
        self._transaction_lock = _ONE._transaction_lock
        self._newest = NewestSeq()  # of its own: as if it were told nothing of the others

    changed = Store.changed
