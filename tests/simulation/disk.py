"""The store in memory on a disk that outlives it, and the faults that any of its calls may meet."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from aggregator.errors import StoreError, TryAgain
from aggregator.store import Quarantined
from aggregator_memory.store import Committed, MemoryStore, MemoryTransaction

PAUSES = (0.0, 0.0, 0.001, 0.02, 0.3)  # seconds


@dataclass
class Chance:
    """What happens where anything may: mostly nothing."""

    random: Random
    store_fails: float
    stage_fails: float
    is_slow: float
    until_kill: int
    """So many awaits."""
    killed: asyncio.Event
    is_on: bool = True

    def happens(self, odds: float) -> bool:
        """Whether it does; never where all is calm."""
        return self.is_on and self.random.random() < odds

    async def pause(self) -> None:
        """Let others go on, or die here: then nothing of this life goes on."""
        self.until_kill -= self.is_on
        if self.until_kill == 0:
            self.killed.set()
        if self.killed.is_set():
            await asyncio.Event().wait()
        if self.happens(self.is_slow):
            await asyncio.sleep(self.random.choice(PAUSES))

    async def meet(self, *others: type[Exception], times: int = 1) -> None:
        """The same for a call of the store, which may fail as well, so many times as often."""
        await self.pause()
        if self.happens(self.store_fails * times):
            raise self.random.choice((StoreError, StoreError, OSError, *others))("it failed")


def _met(name: str) -> Callable[..., Any]:
    """A call of a transaction that may fail before or after it has an effect."""
    call_it = getattr(MemoryTransaction, name)

    async def call(self: "SimulatedTransaction", *args: Any) -> Any:
        await self.chance.meet(TryAgain)
        result = await call_it(self, *args)
        await self.chance.meet(TryAgain)
        return result

    return call


class SimulatedTransaction(MemoryTransaction):
    claim, contents, append = map(_met, ("claim", "contents", "append"))
    record, drop, evict, count = map(_met, ("record", "drop", "evict", "count"))

    def __init__(self, committed: Committed, chance: Chance) -> None:
        super().__init__(committed)
        self.chance = chance
        self.kept: list[Quarantined] = []

    async def quarantine(self, entries: Sequence[Quarantined]) -> None:
        await self.chance.meet(TryAgain)
        await super().quarantine(entries)
        self.kept += entries

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        await self.chance.meet(TryAgain)
        async with super().savepoint():
            yield
            await self.chance.meet(TryAgain)
        await self.chance.meet(TryAgain)


class SimulatedStore(MemoryStore):
    """After an error of a transaction it is not to be used before it was opened again."""

    def __init__(self, disk: Committed, chance: Chance, broken: Callable[[str], None]) -> None:
        super().__init__("memory:")
        self._committed = disk
        self._chance = chance
        self._broken = broken
        self._is_doubtful = False
        self.after_commit: Callable[[list[Quarantined]], None] = lambda kept: None

    async def open(self, key_spec: str, replaces: str | None = None) -> None:
        await super().open(key_spec, replaces)
        self._newest.advance(len(self._committed.events))

    async def reopen(self) -> None:
        await self._chance.meet()
        self._is_doubtful = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        if self._is_doubtful:
            self._broken("the store was used before it was proved again")
        try:
            async with self._transaction_lock:
                await self._chance.meet(TryAgain)
                tx = SimulatedTransaction(self._committed, self._chance)
                yield tx
                await self._chance.meet(TryAgain)
                tx.commit()
                self.after_commit(tx.kept)
                self._newest.advance(len(self._committed.events))
                await self._chance.meet(times=4)
        except TryAgain:
            raise
        except (StoreError, OSError):
            self._is_doubtful = True
            raise

    async def events(self, query: Any) -> Any:
        await self._chance.meet()
        return await super().events(query)

    async def span(self) -> Any:
        await self._chance.meet()
        return await super().span()

    async def counters(self) -> Any:
        await self._chance.meet()
        return await super().counters()

    async def quarantined(self, query: Any) -> Any:
        await self._chance.meet()
        return await super().quarantined(query)
