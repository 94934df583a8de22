"""Stores that fail on request, each otherwise a store that keeps the contract."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

from aggregator.errors import StoreError
from aggregator.store import Content, KeyOwner, Page, Query, Span, StoreTransaction
from aggregator_memory.store import MemoryStore, MemoryTransaction

SLOW = 0.6


class FailingStore(MemoryStore):
    """`failing:` fails at the named points as often as it is told to."""

    failures: ClassVar[dict[str, int]] = {}

    def __init__(self, url: str) -> None:
        super().__init__("memory:")
        self.failures.clear()
        self.happened: list[str] = []

    def fail(self, point: str) -> None:
        left = self.failures.get(point, 0)
        self.happened.append(f"{point} {'failed' if left else 'held'}")
        if left:
            self.failures[point] = left - 1
            raise StoreError(f"{point} failed")

    async def reopen(self) -> None:
        self.fail("reopen")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        self.fail("begin")
        async with super().transaction() as tx:
            yield tx
            self.fail("commit")
        self.fail("fsync")


class HeldStore(FailingStore):
    """`held:` begins no transaction before its gate is open, and then fails as `failing:` does."""

    gate: ClassVar[asyncio.Event]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        await self.gate.wait()
        async with super().transaction() as tx:
            yield tx


class SlowTransaction(MemoryTransaction):
    async def claim(self, keys: Sequence[bytes]) -> list[KeyOwner | None]:
        await asyncio.sleep(SLOW)
        return await super().claim(keys)


class SlowStore(MemoryStore):
    """`slow:` takes its time over every claim."""

    def __init__(self, url: str) -> None:
        super().__init__("memory:")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[StoreTransaction]:
        async with self._transaction_lock:
            tx = SlowTransaction(self._committed)
            yield tx
            tx.commit()


class FailingReads(MemoryStore):
    """`fails-reading:` reads so many pages of events, and no further ones."""

    def __init__(self, url: str) -> None:
        super().__init__("memory:")
        self.left = 1_000_000

    async def events(self, query: Query) -> Page:
        if not self.left:
            raise StoreError("reading failed")
        self.left -= 1
        return await super().events(query)


class Forgetting(MemoryStore):
    """`forgets:` says of some events that they are kept no more, and cannot always be read."""

    def __init__(self, url: str) -> None:
        super().__init__("memory:")
        self.oldest = 1
        self.newest: int | None = None
        self.fails = False

    async def span(self) -> Span:
        if self.fails:
            raise StoreError("reading failed")
        newest = (await super().span()).newest
        return Span(self.oldest if newest else 0, self.newest or newest)


class SlowContents(FailingStore):
    """`slow-contents:` gives contents beside transactions while its gate is open; counts calls."""

    gate: ClassVar[asyncio.Event]
    asked: ClassVar[list[list[int]]] = []

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked.clear()
        SlowContents.gate = asyncio.Event()
        self.gate.set()

    async def contents(self, seqs: Sequence[int]) -> list[Content]:
        self.asked.append(list(seqs))
        await self.gate.wait()
        self.fail("contents")
        return await super().contents(seqs)
