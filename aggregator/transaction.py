"""What a stage is lent while the pipeline runs it: the store's words, and nothing that commits."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from aggregator.errors import StageFault
from aggregator.event import Event
from aggregator.store import Holder, Sighting, StoreTransaction

R = TypeVar("R")


class Transaction:
    """Lent to one stage after the other; it can neither commit nor roll back.

    Once a call has failed or was cancelled, the batch is rolled back, even if the stage swallows
    the error. While the store works, the stage's time does not run.
    """

    def __init__(self, lender: StoreTransaction) -> None:
        self._lender = lender
        self._limit: asyncio.Timeout | None = None
        self.effects: list[Callable[[], None]] = []
        self.failure: BaseException | None = None

    async def claim(self, keys: Sequence[bytes]) -> list[Holder | None]:
        """For each key the event that holds it, or None if it is new; rival claims wait.

        Events appended earlier in this transaction hold their keys already. A claim leaves
        nothing behind: a key that no event is appended under stays new.
        """
        return await self._call(self._lender.claim(keys))

    async def contents(self, seqs: Sequence[int]) -> list[tuple[str, bytes]]:
        """The source and payload of each of these events, in order."""
        return await self._call(self._lender.contents(seqs))

    async def append(self, events: Sequence[Event]) -> list[int]:
        """Store the events with their keys; return the seq of each, ascending.

        Raises KeyHeld, and stores none of them, if one's key is held or stands twice among them.
        """
        return await self._call(self._lender.append(events))

    async def record(self, sightings: Sequence[Sighting]) -> None:
        """Keep how often, when last and from which source events came again."""
        await self._call(self._lender.record(sightings))

    def after_commit(self, effect: Callable[[], None]) -> None:
        """Call `effect` once the transaction has committed, and never if it does not."""
        self.effects.append(effect)

    @contextmanager
    def lent(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Usable within the block, by a stage whose time is `limit`. For the pipeline."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = None

    def forget(self, effects: int) -> None:
        """A savepoint was undone: as before, with the first `effects` effects. For the worker."""
        del self.effects[effects:]
        self.failure = None

    async def _call(self, call: Coroutine[Any, Any, R]) -> R:
        if self._limit is None:
            call.close()
            raise StageFault("used its transaction after it had answered")
        if self.failure:
            call.close()
            raise self.failure
        try:
            with _paused(self._limit):
                return await call
        except BaseException as error:
            self.failure = error
            raise


@contextmanager
def _paused(limit: asyncio.Timeout) -> Iterator[None]:
    clock = asyncio.get_running_loop()
    due = limit.when()
    if due is None:  # a second call beside the first, which has stopped the clock
        yield
        return
    remaining = due - clock.time()
    limit.reschedule(None)
    try:
        yield
    finally:
        limit.reschedule(clock.time() + remaining)
