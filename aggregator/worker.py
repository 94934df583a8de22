"""Settles what the queue holds: batch after batch, each in one transaction.

While one commit is on its way, what arrives gathers into the next batch: batches are large under
load and immediate when idle, without a timer.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress

from aggregator.errors import AggregatorError, StoreError
from aggregator.ledger import Ledger
from aggregator.queue import Queue
from aggregator.settling import Part, Settled, Settler, batches
from aggregator.store import Store

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1  # seconds between attempts to get a failed store back, doubled each time
_LONGEST_PAUSE = 5.0
_LONGEST_BATCH = 10.0  # seconds
_MOST_ROUNDS = 2  # in which what there was no time for is tried again


class Worker:
    """The one task that takes from the queue."""

    def __init__(
        self, store: Store, queue: Queue, settler: Settler, ledger: Ledger, batch_events: int
    ) -> None:
        self.store = store
        self.queue = queue
        self.settler = settler
        self.ledger = ledger
        self.batch_events = batch_events
        self.trouble = ""
        """Why nothing can be stored just now; empty while all is well."""
        self._stopping = asyncio.Event()
        self._begun: float | None = None

    async def run(self) -> None:
        """Work until the queue is closed and empty."""
        again: list[Part] = []
        rounds = 0
        while parts := again or await self._take():
            rounds = rounds + 1 if again else 0
            again = await self._work(parts, is_last=rounds == _MOST_ROUNDS)

    @property
    def hangs(self) -> bool:
        """Whether the batch under way has taken so long that the disk may never answer."""
        clock = asyncio.get_running_loop()
        return self._begun is not None and clock.time() - self._begun > _LONGEST_BATCH

    async def stop(self) -> None:
        """Let `run` end once everything accepted is settled."""
        self._stopping.set()
        await self.queue.close()

    async def _take(self) -> list[Part]:
        return [Part.of(submission) for submission in await self.queue.take(self.batch_events)]

    async def _work(self, parts: list[Part], *, is_last: bool) -> list[Part]:
        """Settle the parts; return those to settle again, since nobody will send them again.

        The last time there are none: who is slow for ever must not keep the others waiting so long.
        """
        waiting = deque(batches(parts))
        again: list[Part] = []
        try:
            while waiting:
                settled = await self._settle(waiting[0], is_last or self._stopping.is_set())
                self._acknowledge(settled)
                again += settled.again
                left = {part.submission.id for part in settled.again}
                done = [part.submission for part in waiting.popleft()]
                await self.queue.done([one for one in done if one.id not in left])
        except StoreError as error:
            return again + await self._fail([part for batch in waiting for part in batch], error)
        return again

    async def _settle(self, batch: list[Part], is_last: bool) -> Settled:
        if self.trouble:  # not mended before the service began to stop
            raise StoreError(self.trouble)
        self._begun = asyncio.get_running_loop().time()
        try:
            return await self.settler.settle(batch, is_last=is_last)
        finally:
            self._begun = None

    def _acknowledge(self, settled: Settled) -> None:
        for effect in settled.effects:
            try:
                effect()
            except Exception:
                log.exception("after the commit, a stage's effect failed; the events are stored")
        self.ledger.settle(settled.stored, settled.counters)
        for submission, fault in settled.failed:
            log.error("submission %s failed: %s", submission.id, fault)
            self.ledger.fail([submission], fault)

    async def _fail(self, parts: list[Part], error: StoreError) -> list[Part]:
        """Tell those who wait; keep what was answered already until the store is back."""
        detached = [part for part in parts if part.submission.is_detached]
        await self._give_up([part for part in parts if not part.submission.is_detached], error)
        await self._recover(error)
        for part in detached:
            part.reopen()
            if self.trouble:
                log.critical(
                    "submission %s was answered 202 and is lost, with %d events: %s",
                    part.submission.id,
                    len(part.submission.events),
                    self.trouble,
                )
        if self.trouble:
            await self._give_up(detached, error)
            return []
        return detached

    async def _give_up(self, parts: list[Part], error: StoreError) -> None:
        submissions = [part.submission for part in parts]
        self.ledger.fail(submissions, error)
        await self.queue.failed(submissions)

    async def _recover(self, error: StoreError) -> None:
        """Acknowledge nothing until the store is proved again; try once more when stopping."""
        if self.trouble:  # this was tried while stopping, and the time that is left is short
            self.ledger.fail_waiting(error)
            return
        pause = _FIRST_PAUSE
        self.trouble = str(error)
        while True:
            log.error("the store failed: %s", self.trouble)
            self.ledger.fail_waiting(StoreError(self.trouble))
            try:
                await self.store.reopen()
                self.ledger.counters = await self.store.counters()
            except AggregatorError as again:
                self.trouble = str(again)
            else:
                self.trouble = ""
                log.warning("the store is back: reopened and checkpointed")
                return
            if self._stopping.is_set():
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self.ledger.fail_waiting(StoreError(self.trouble))
