"""The worker: takes from the queue, and has batch after batch settled, each in one transaction.

What happens after a failed write or fsync: `Worker._recover`.

While one commit is on its way, what arrives gathers into the next batch, and so does what the
publishers send who were answered just now: batches are large under load and immediate when idle,
without a timer.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from aggregator.core.fault_log import Seldom
from aggregator.core.metrics import Metrics
from aggregator.errors import AggregatorError, StageFault, StoreError
from aggregator.event import Submission
from aggregator.pipeline.batch import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    BatchItem,
    BatchResult,
    batches,
)
from aggregator.pipeline.comparer import Comparer
from aggregator.pipeline.effects import EffectRunner
from aggregator.pipeline.maintenance import Maintenance
from aggregator.pipeline.pending import PendingSubmissions
from aggregator.pipeline.processor import BatchProcessor
from aggregator.queue import Queue
from aggregator.store import OUTCOMES, Store

log = logging.getLogger(__name__)

_TURNS = 5  # of the event loop, from an answer to the next request of who reads it at once
_LONGEST_BATCH = 10.0  # seconds
_LONGEST_COMPARISON = 5.0  # seconds that contents are still compared once the service stops
_MOST_LAST_FAILURES = 20  # of the store while the service stops, though it could be opened again


class Worker:
    """The one task that takes from the queue."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        processor: BatchProcessor,
        pending: PendingSubmissions,
        *,
        maintenance: Maintenance,
        batch_events: int,
        metrics: Metrics | None = None,
    ) -> None:
        self.store = store
        self.queue = queue
        self.processor = processor
        self.pending = pending
        self.batch_events = batch_events
        self.maintenance = maintenance
        self.metrics = metrics or Metrics()
        self.metrics.events.update(dict.fromkeys(OUTCOMES, 0))
        self.trouble = ""
        """Why nothing can be stored just now; empty while all is well."""
        self._stopping = asyncio.Event()
        self._begun: float | None = None
        self._taking: asyncio.Task[list[Submission]] | None = None
        self._is_drained = False  # the queue, once it is closed
        self._kept: list[BatchItem] = []  # answered 202 or compared, and to be tried again
        self._comparer = Comparer(store)
        self._comparing: set[asyncio.Task[None]] = set()
        self._compared: asyncio.Future[None] | None = None  # done once one of them is
        self._last_failures = 0  # of the store, since the service began to stop
        self._seldom = Seldom()
        self._effects = EffectRunner()

    async def run(self) -> None:
        """Work until the queue is closed and empty."""
        self.maintenance.start()
        while items := await self._next():
            await self._work(items)

    @property
    def _is_well(self) -> bool:
        """Whether there is time for maintenance: it needs the store, and a stop must not wait."""
        return not (self.trouble or self._stopping.is_set())

    @property
    def hangs(self) -> bool:
        """Whether the batch under way has taken so long that the disk may never answer."""
        clock = asyncio.get_running_loop()
        return self._begun is not None and clock.time() - self._begun > _LONGEST_BATCH

    async def stop(self) -> None:
        """Let `run` end once everything accepted is settled."""
        self._stopping.set()
        self.hurry()
        await self.queue.close()

    def hurry(self) -> None:
        """The service stops: compare contents for _LONGEST_COMPARISON and no longer."""
        asyncio.get_running_loop().call_later(_LONGEST_COMPARISON, self._comparer.stop)

    async def _next(self) -> list[BatchItem]:
        """What is kept and due, and what waits in the queue; none once there is nothing left.

        Waits for one of the two; the jobs that are due come first.
        """
        while True:
            await self._maintain()
            taken = await self._taken()
            items = self._due() + taken
            if items or (self._is_drained and not (self._kept or self._comparing)):
                return items

    async def _taken(self) -> list[BatchItem]:
        """What the queue gives; nothing if something else is due first, or has been compared."""
        waited: set[asyncio.Future[Any]] = set()
        if not self._is_drained:
            self._taking = self._taking or await self._begin_to_take()
            waited.add(self._taking)
        if self._comparing:
            self._compared = asyncio.get_running_loop().create_future()
            waited.add(self._compared)
        if waited:
            # Never cancelled: what a queue elsewhere gives while it is could be lost on the way.
            await asyncio.wait(waited, timeout=self._pause, return_when=asyncio.FIRST_COMPLETED)
        if not (self._taking and self._taking.done()):
            return []
        taken, self._taking = self._taking.result(), None
        self._is_drained = not taken
        for submission in taken:
            self.metrics.queue_wait_seconds.observe(self.pending.waited(submission))
        return list(map(BatchItem.of, taken))

    async def _begin_to_take(self) -> "asyncio.Task[list[Submission]]":
        # Who was answered just now may send again at once. Without these turns publishers would
        # fall into two halves, of which one waits while the other commits: twice the commits.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return asyncio.create_task(self.queue.take(self.batch_events))

    def _compare(self, item: BatchItem) -> None:
        """Have its contents compared beside; then it is kept, and due."""
        assert item.comparison
        client = self.pending.client(item.submission)
        comparing = self._comparer.compare(item.comparison, client)
        task = asyncio.create_task(comparing, name="comparison")
        self._comparing.add(task)
        task.add_done_callback(partial(self._has_compared, item))

    def _has_compared(self, item: BatchItem, task: asyncio.Task[None]) -> None:
        self._comparing.discard(task)
        if task.cancelled():  # with everything
            return
        if error := task.exception():
            self._has_not_compared(item, error)
        self._kept.append(item)
        if self._compared and not self._compared.done():
            self._compared.set_result(None)

    def _has_not_compared(self, item: BatchItem, error: BaseException) -> None:
        """Nothing of it is stored: who waits is told so. What was answered 202 is tried again."""
        if isinstance(error, StoreError) and item.submission.respond_async:
            more = self._seldom.told("contents")
            if more is not None:
                log.error("what submission %s compares: %s%s", item.submission.id, error, more)
            item.has_failed(error, is_its_own=True)
        elif isinstance(error, AggregatorError):
            item.fault = error
        else:
            log.error("contents could not be compared", exc_info=error)
            item.fault = StageFault(f"{type(error).__name__} while contents were compared")

    @property
    def _pause(self) -> float | None:
        """Seconds until a job is due, or what is kept; None if nothing is."""
        pauses = [self.maintenance.pause] if self._is_well else []
        if self._kept:
            due = min(item.due for item in self._kept) - asyncio.get_running_loop().time()
            pauses.append(0.0 if self._stopping.is_set() else max(0.0, due))
        return min((pause for pause in pauses if pause is not None), default=None)

    def _due(self) -> list[BatchItem]:
        """Those that are due of what was kept, a batch of them; when the service stops all are."""
        now = asyncio.get_running_loop().time()
        kept, self._kept = self._kept, []
        due: list[BatchItem] = []
        events = 0
        for item in kept:
            if events < self.batch_events and (item.due <= now or self._stopping.is_set()):
                due.append(item)
                events += len(item.submission.events)
            else:
                self._kept.append(item)
        return due

    async def _maintain(self) -> None:
        """Run the job that is due, if one is and the store is well."""
        if not self._is_well:
            return
        if job := self.maintenance.take():
            try:
                with self._timed():
                    counters, is_unfinished = await self.processor.maintain(job)
            except StoreError as error:
                await self._recover(error)
            else:
                self.pending.settle((), counters)
                if is_unfinished:
                    self.maintenance.resume(job)

    async def _work(self, items: list[BatchItem]) -> None:
        """Settle the items, but for those that were answered 202 and are to be tried again."""
        waiting = deque(batches(items))
        while waiting:
            try:
                settled = await self._settle(waiting[0])
            except StoreError as error:
                await self._fail([item for batch in waiting for item in batch], error)
                return
            self._acknowledge(settled)
            for item in settled.again:
                item.late += 1
            self._kept += settled.again
            for item in settled.postponed:
                self._compare(item)
            left = {item.submission.id for item in (*settled.again, *settled.postponed)}
            done = [item.submission for item in waiting.popleft()]
            await self.queue.done([one for one in done if one.id not in left])

    async def _settle(self, batch: list[BatchItem]) -> BatchResult:
        if self.trouble:  # not mended before the service began to stop
            raise StoreError(self.trouble)
        self.metrics.batch_events.observe(sum(len(item.submission.events) for item in batch))
        try:
            with self._timed():
                return await self.processor.settle(batch, is_last=self._stopping.is_set())
        except StoreError as error:
            for item in batch:
                item.has_failed(error)
            raise

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """For `hangs`: what is done within takes the store's time."""
        self._begun = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._begun = None

    def _acknowledge(self, settled: BatchResult) -> None:
        self._effects.run(settled.effects)
        self._note(settled)
        self.pending.settle(settled.stored, settled.counters or self.pending.counters)
        for submission, fault in settled.failed:
            # One that was answered 202 is told by name, where it is put into quarantine.
            if not submission.respond_async:
                is_ours = isinstance(fault, StageFault | StoreError)
                level = logging.ERROR if is_ours else logging.WARNING
                more = self._seldom.told(f"submission failed: {level}")
                if more is not None:
                    log.log(level, "submission %s failed: %s%s", submission.id, fault, more)
            self.pending.fail([submission], fault)

    def _note(self, settled: BatchResult) -> None:
        if settled.counters is not None:
            self.metrics.moments.last_commit = time.time()
            for outcome in OUTCOMES:
                self.metrics.events[outcome] += getattr(settled.counted, outcome)

    async def _fail(self, items: list[BatchItem], error: StoreError) -> None:
        """Fail those who wait with the error; keep those answered 202, once the store is back."""
        answered_early = [item for item in items if item.submission.respond_async]
        await self._give_up([item for item in items if not item.submission.respond_async], error)
        await self._recover(error)
        for item in answered_early:
            item.reopen()
        if self._stopping.is_set():
            self._last_failures += 1
        if self.trouble or self._last_failures > _MOST_LAST_FAILURES:
            await self._lose(answered_early, error)
            return
        self._kept += answered_early
        if self._stopping.is_set() and answered_early:  # all of them are due, whatever they say
            await asyncio.sleep(FIRST_PAUSE)

    async def _lose(self, items: list[BatchItem], error: StoreError) -> None:
        for item in items:
            log.critical(
                "submission %s was answered 202 and is lost, with %d events: %s",
                item.submission.id,
                len(item.submission.events),
                self.trouble or error,
            )
        await self._give_up(items, error)

    async def _give_up(self, items: list[BatchItem], error: StoreError) -> None:
        submissions = [item.submission for item in items]
        self.pending.fail(submissions, error)
        await self.queue.failed(submissions)

    async def _recover(self, error: StoreError) -> None:
        """Acknowledge nothing until the store is proved again; try once more when stopping."""
        if self.trouble:  # this was tried while stopping, and the time that is left is short
            self.pending.fail_waiting(error)
            return
        pause = FIRST_PAUSE
        self.trouble = str(error)
        while True:
            log.error("the store failed: %s", self.trouble)
            self.metrics.moments.store_failures += 1
            self.pending.fail_waiting(StoreError(self.trouble))
            try:
                await self.store.reopen()
                self.pending.counters = await self.store.counters()
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
            pause = min(2 * pause, LONGEST_PAUSE)
        self.pending.fail_waiting(StoreError(self.trouble))
