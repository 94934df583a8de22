"""The store in memory on a disk that outlives it, and the faults that any of its calls may meet."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aggregator.errors import StoreError, TryAgain
from aggregator_memory.store import Committed, MemoryStore, MemoryTransaction


@dataclass
class Chance:
    """What happens where anything may: mostly nothing."""

    random: Random
    store_fails: float
    stage_fails: float
    is_slow: float
    until_kill: int  # so many awaits
    is_on: bool = False
    killed: asyncio.Event = field(default_factory=asyncio.Event)
    problems: list[Exception] = field(default_factory=list)

    def happens(self, odds: float) -> bool:
        return self.is_on and self.random.random() < odds

    def broken(self, what: str) -> None:
        self.problems.append(AssertionError(what))

    async def pause(self) -> None:
        """Let others go on, or die here: then nothing of this life goes on."""
        self.until_kill -= self.is_on
        if self.until_kill == 0:
            self.killed.set()
        if self.killed.is_set():
            await asyncio.Event().wait()
        if self.happens(self.is_slow):
            await asyncio.sleep(self.random.choice((0.0, 0.0, 0.001, 0.02, 0.3)))

    async def meet(self, *others: type[Exception], times: int = 1) -> None:
        """The same for a call of the store, which may fail as well, so many times as often."""
        await self.pause()
        if self.happens(self.store_fails * times):
            raise self.random.choice((StoreError, StoreError, OSError, *others))("it failed")


def _met(call_it: Callable[..., Any], *others: type[Exception]) -> Any:
    """The call, which may fail before it has an effect, or after it."""

    async def call(self: Any, *args: Any) -> Any:
        await self.chance.meet(*others)
        result = await call_it(self, *args)
        await self.chance.meet(*others)
        return result

    return call


_CALLS = ("claim", "contents", "append", "record", "quarantine", "drop", "evict", "count")
_READS = ("events", "span", "counters", "quarantined", "contents")


class SimulatedTransaction(MemoryTransaction):
    claim, contents, append, record, quarantine, drop, evict, count = (
        _met(getattr(MemoryTransaction, name), TryAgain) for name in _CALLS
    )

    def __init__(self, committed: Committed, chance: Chance) -> None:
        super().__init__(committed)
        self.chance = chance

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        await self.chance.meet(TryAgain)
        async with super().savepoint():
            yield
            await self.chance.meet(TryAgain)


class SimulatedStore(MemoryStore):
    """After an error of a transaction it is not to be used before it was opened again."""

    events, span, counters, quarantined, contents = (
        _met(getattr(MemoryStore, name)) for name in _READS
    )

    def __init__(self, disk: Committed, chance: Chance, committed: Callable[[], None]) -> None:
        super().__init__("memory:")
        self._committed, self.chance, self._tell = disk, chance, committed
        self._newest.advance(len(disk.events))
        self._is_doubtful = False

    async def reopen(self) -> None:
        await self.chance.meet()
        self._is_doubtful = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        if self._is_doubtful:
            self.chance.broken("the store was used before it was proved again")
        try:
            async with self._transaction_lock:
                await self.chance.meet(TryAgain)
                yield (tx := SimulatedTransaction(self._committed, self.chance))
                await self.chance.meet(TryAgain)
                tx.commit()
                self._newest.advance(len(self._committed.events))
                self._tell()
                await self.chance.meet(times=4)  # committed, whatever is told
        except (StoreError, OSError) as error:
            self._is_doubtful = not isinstance(error, TryAgain)
            raise
