"""The worker: takes from the queue, and settles batch after batch, each in one transaction.

BEGIN and COMMIT: `BatchProcessor` opens the store's transaction, and nobody else does. What
happens after a failed write or fsync: `Worker._recover`.

While one commit is on its way, what arrives gathers into the next batch: batches are large under
load and immediate when idle, without a timer. A batch holds lenient submissions, or exactly one
strict one: were that one refused beside others, its neighbours might be called duplicates of what
is then not stored.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from msgspec.structs import replace

from aggregator.errors import (
    AggregatorError,
    StageFault,
    StoreError,
    StoreFault,
    TryAgain,
    Unavailable,
)
from aggregator.event import Event, Pending, Submission
from aggregator.outcome import Conflict, Duplicate, Refused, Stored
from aggregator.pipeline.bookkeeping import BatchRecorder
from aggregator.pipeline.maintenance import Job, Maintenance
from aggregator.pipeline.pending import PendingSubmissions
from aggregator.pipeline.runner import StageRunner
from aggregator.queue import Queue
from aggregator.store import Counters, Store
from aggregator.transaction import UnitOfWork

log = logging.getLogger(__name__)

R = TypeVar("R")

_FIRST_PAUSE = 0.1  # seconds between attempts to get a failed store back, doubled each time
_LONGEST_PAUSE = 5.0
_LONGEST_BATCH = 10.0  # seconds
_NOT_TRIED = "Earlier submissions of the batch took all its time. Try again."
_MOST_ATTEMPTS = 10  # at one transaction
_PAUSE = 0.005  # seconds; each retry waits so much longer than the one before, the first not at all
_MOST_ROUNDS = 2  # how often what ran out of time is tried again
_MOST_FAULTS = 3  # of the store, at what was answered early, before it goes into quarantine


@dataclass
class BatchItem:
    """A submission, and those of its events that the intake left open."""

    submission: Submission
    going: list[Event]
    faults: int = 0
    """How often the store raised what nobody foresaw while this was settled."""

    @classmethod
    def of(cls, submission: Submission) -> "BatchItem":
        """The submission as it comes from the queue."""
        going = [event for event in submission.events if type(event.verdict) is Pending]
        return cls(submission, going)

    def reopen(self) -> None:
        """Forget what became of its events, which was rolled back."""
        for event in self.going:
            event.reopen()


def batches(items: Sequence[BatchItem]) -> Iterator[list[BatchItem]]:
    """One batch of all lenient submissions, then one for each strict submission.

    In order of arrival a few strict ones would split the commit that the lenient ones share. What
    the store may never take is alone too, so that the others are stored without it.
    """
    alone = [item for item in items if item.submission.is_strict or item.faults]
    if together := [item for item in items if item not in alone]:
        yield together
    yield from ([item] for item in alone)


@dataclass(frozen=True)
class BatchResult:
    """The result of a committed batch: the submissions stored, and the counters after them.

    `effects` are to be run next. The submissions in `failed` left no event in the store; for those
    in `again` there was no time, and they are to be tried again.
    """

    stored: list[Submission]
    counters: Counters
    effects: Sequence[Callable[[], None]] = ()
    failed: list[tuple[Submission, AggregatorError]] = field(default_factory=list)
    again: list[BatchItem] = field(default_factory=list)


class Worker:
    """The one task that takes from the queue."""

    def __init__(
        self,
        store: Store,
        queue: Queue,
        processor: "BatchProcessor",
        pending: PendingSubmissions,
        *,
        maintenance: Maintenance,
        batch_events: int,
    ) -> None:
        self.store = store
        self.queue = queue
        self.processor = processor
        self.pending = pending
        self.batch_events = batch_events
        self.maintenance = maintenance
        self.trouble = ""
        """Why nothing can be stored just now; empty while all is well."""
        self._stopping = asyncio.Event()
        self._begun: float | None = None
        self._failures = 0  # of the store, since it has last stored something

    async def run(self) -> None:
        """Work until the queue is closed and empty."""
        self.maintenance.start()
        again: list[BatchItem] = []
        rounds = 0
        while items := again or await self._take():
            rounds = rounds + 1 if again else 0
            again = await self._work(items, is_last=rounds == _MOST_ROUNDS)

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
        await self.queue.close()

    async def _take(self) -> list[BatchItem]:
        """What waits in the queue, at least one submission; the jobs that are due come first."""
        taking = asyncio.ensure_future(self.queue.take(self.batch_events))
        while True:
            await self._maintain()
            # Never cancelled: what a queue elsewhere gives while it is could be lost on the way.
            pause = self.maintenance.pause if self._is_well else None
            done, _ = await asyncio.wait({taking}, timeout=pause)
            if done:
                return [BatchItem.of(submission) for submission in taking.result()]

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

    async def _work(self, items: list[BatchItem], *, is_last: bool) -> list[BatchItem]:
        """Settle the items; return those that were answered early and are to be settled again.

        The last time none of them ran out of time: who is slow for ever must not keep the others.
        """
        waiting = deque(batches(items))
        again: list[BatchItem] = []
        try:
            while waiting:
                settled = await self._settle(waiting[0], is_last or self._stopping.is_set())
                self._failures = 0
                self._acknowledge(settled)
                again += settled.again
                left = {item.submission.id for item in settled.again}
                done = [item.submission for item in waiting.popleft()]
                await self.queue.done([one for one in done if one.id not in left])
        except StoreError as error:
            self._failures += 1
            if isinstance(error, StoreFault):
                for item in waiting[0]:
                    item.faults += 1
            return again + await self._fail([item for batch in waiting for item in batch], error)
        return again

    async def _settle(self, batch: list[BatchItem], is_last: bool) -> BatchResult:
        if self.trouble:  # not mended before the service began to stop
            raise StoreError(self.trouble)
        with self._timed():
            return await self.processor.settle(batch, is_last=is_last)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """For `hangs`: what is done within takes the store's time."""
        self._begun = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._begun = None

    def _acknowledge(self, settled: BatchResult) -> None:
        for effect in settled.effects:
            try:
                effect()
            except Exception:
                log.exception("after the commit, a stage's effect failed; the events are stored")
        self.pending.settle(settled.stored, settled.counters)
        for submission, fault in settled.failed:
            log.error("submission %s failed: %s", submission.id, fault)
            self.pending.fail([submission], fault)

    async def _fail(self, items: list[BatchItem], error: StoreError) -> list[BatchItem]:
        """Fail those who wait with the error; return those answered 202 once the store is back."""
        answered_early = [item for item in items if item.submission.respond_async]
        await self._give_up([item for item in items if not item.submission.respond_async], error)
        await self._recover(error)
        for item in answered_early:
            item.reopen()
        lost = [item for item in answered_early if self._is_lost(item)]
        for item in lost:
            log.critical(
                "submission %s was answered 202 and is lost, with %d events: %s",
                item.submission.id,
                len(item.submission.events),
                self.trouble or error,
            )
        await self._give_up(lost, error)
        kept = [item for item in answered_early if item not in lost]
        if kept and self._failures > 1:  # though it could be opened again each time
            await self._pause(min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE))
        return kept

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the service stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _is_lost(self, item: BatchItem) -> bool:
        """Whether this was the last attempt: the store stays failed, or takes it in no form."""
        is_hopeless = self._stopping.is_set() and item.faults > _MOST_FAULTS
        return bool(self.trouble) or is_hopeless

    async def _give_up(self, items: list[BatchItem], error: StoreError) -> None:
        submissions = [item.submission for item in items]
        self.pending.fail(submissions, error)
        await self.queue.failed(submissions)

    async def _recover(self, error: StoreError) -> None:
        """Acknowledge nothing until the store is proved again; try once more when stopping."""
        if self.trouble:  # this was tried while stopping, and the time that is left is short
            self.pending.fail_waiting(error)
            return
        pause = _FIRST_PAUSE
        self.trouble = str(error)
        while True:
            log.error("the store failed: %s", self.trouble)
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
            await self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self.pending.fail_waiting(StoreError(self.trouble))


class BatchProcessor:
    """Begins and commits transactions; nobody else does."""

    def __init__(self, store: Store, runner: StageRunner, recorder: BatchRecorder) -> None:
        self.store = store
        self.runner = runner
        self.recorder = recorder

    async def settle(self, batch: list[BatchItem], *, is_last: bool) -> BatchResult:
        """Settle what may share a transaction. Raises StoreError: then its fate is unknown.

        What there is no time for comes again, unless this is the last time.
        """
        if batch[0].faults >= _MOST_FAULTS:
            return await _with_retries(lambda: self._set_aside(batch[0].submission))

        def reset() -> None:
            for item in batch:
                item.reopen()

        return await _with_retries(lambda: self._settle(batch, is_last), reset)

    async def maintain(self, job: Job) -> tuple[Counters, bool]:
        """Run the job in a transaction; the counters after it, and whether it has more to do.

        Raises StoreError.
        """

        async def attempt() -> tuple[Counters, bool]:
            async with self.store.transaction() as tx:
                is_unfinished = await job.run(tx)
                await tx.count(Counters(), {})
            return tx.counters, is_unfinished

        return await _with_retries(attempt)

    async def _settle(self, batch: list[BatchItem], is_last: bool) -> BatchResult:
        try:
            return await self._settle_together(batch)
        except StageFault as fault:
            log.error("%s; replaying %d submissions one by one", fault, len(batch))
            return await self._replay(batch, is_last)

    async def _set_aside(self, submission: Submission) -> BatchResult:
        """Put into quarantine what the store can never store; no stage sees it any more."""
        fault = StoreFault(f"the store failed {_MOST_FAULTS} times over it; the log says more")
        async with self.store.transaction() as tx:
            await self.recorder.record((), tx, [(submission, fault)])
        return BatchResult([], tx.counters, failed=[(submission, fault)])

    async def _settle_together(self, batch: list[BatchItem]) -> BatchResult:
        submissions = [item.submission for item in batch]
        async with self.store.transaction() as tx:
            work = UnitOfWork(tx)
            if submissions[0].is_strict:
                await self._try_strict(batch[0], work)
            else:
                await self._process(batch, work)
            await self.recorder.record(submissions, tx)
        return BatchResult(submissions, tx.counters, work.effects)

    async def _try_strict(self, item: BatchItem, work: UnitOfWork) -> None:
        try:
            async with work.tx.savepoint():
                await self._process([item], work)
                if any(map(item.submission.refuses, item.submission.events)):
                    raise _Blocked  # noqa: TRY301, it is what undoes the savepoint
        except _Blocked:
            _refuse(item.submission, set(work.appended))
            work.undo(0, 0)

    async def _replay(self, batch: list[BatchItem], is_last: bool) -> BatchResult:
        """Each submission in a savepoint of one new transaction, so that only the bad fail."""
        good: list[Submission] = []
        failed: list[tuple[Submission, AggregatorError]] = []
        again: list[BatchItem] = []
        clock = asyncio.get_running_loop()
        deadline = clock.time() + 3 * self.runner.timeout
        async with self.store.transaction() as tx:
            work = UnitOfWork(tx)
            for item in batch:
                is_late = clock.time() > deadline
                fault = Unavailable(_NOT_TRIED) if is_late else await self._attempt(item, work)
                if fault is None:
                    good.append(item.submission)
                    continue
                item.reopen()
                if is_late and item.submission.respond_async and not is_last:
                    again.append(item)  # nobody would send it again
                else:
                    failed.append((item.submission, fault))
            await self.recorder.record(good, tx, failed)
        return BatchResult(good, tx.counters, work.effects, failed, again)

    async def _attempt(self, item: BatchItem, work: UnitOfWork) -> AggregatorError | None:
        item.reopen()
        done = len(work.effects), len(work.appended)
        try:
            if item.submission.is_strict:
                await self._try_strict(item, work)
            else:
                async with work.tx.savepoint():
                    await self._process([item], work)
        except StageFault as fault:
            work.undo(*done)
            return fault
        return None

    async def _process(self, batch: Sequence[BatchItem], work: UnitOfWork) -> None:
        before = len(work.appended)
        going = [event for item in batch for event in item.going]
        left = await self.runner.run(going, work)
        if left:
            raise StageFault(
                f"{self.runner.names}: event {left[0].index} on topic {left[0].topic!r} came "
                "through without an outcome; is there a stage that stores it?"
            )
        _check_seqs(going, work, before, self.runner.names)


async def _with_retries(
    attempt: Callable[[], Awaitable[R]], reset: Callable[[], None] = lambda: None
) -> R:
    """Run a transaction; on TryAgain call `reset` and run it again, _MOST_ATTEMPTS times in all.

    Raises StoreError; TryAgain, which is one, after the last attempt.
    """
    for number in range(_MOST_ATTEMPTS - 1):
        try:
            return await attempt()
        except TryAgain as error:
            log.info("the store has rolled back, and the batch is run again: %s", error)
            reset()
            await asyncio.sleep(number * _PAUSE)  # the other one may have to end first
    return await attempt()


class _Blocked(Exception):
    """A strict submission cannot be taken as a whole."""


def _refuse(submission: Submission, undone: set[int]) -> None:
    """Tell what became of the events of a strict submission that was rolled back."""
    for event in submission.events:
        match event.outcome:
            case Stored():
                event.overrule(Refused())
            case Duplicate(seq=seq) if seq in undone:
                event.overrule(Refused())
            case Conflict(seq=seq) as conflict if seq in undone:
                event.overrule(replace(conflict, seq=None))


def _check_seqs(going: Sequence[Event], work: UnitOfWork, before: int, names: str) -> None:
    """Raise StageFault unless each outcome is what happened in the store.

    The events settled as Stored are those that were appended, each with its seq; a Duplicate or
    Conflict names the holder of its key; and no event is without an outcome.
    """
    told = [(event.verdict.seq, event.key) for event in going if type(event.verdict) is Stored]
    appended = list(islice(work.appended.items(), before, None))
    if told != appended:  # a stage may settle them in another order
        _check_stored(dict(told), len(told), dict(appended), names)
    if len(told) < len(going):
        _check_others(going, work, names)


def _check_stored(
    stored: dict[int, bytes], told: int, appended: dict[int, bytes], names: str
) -> None:
    if len(stored) < told:
        raise StageFault(f"{names}: two events are told that they are stored under one seq")
    if stored != appended:
        raise StageFault(f"{names}: the events settled as stored are not those that were appended")


def _check_others(going: Sequence[Event], work: UnitOfWork, names: str) -> None:
    for event in going:
        match event.outcome:
            case None:
                raise StageFault(f"{names}: event {event.index} was lost on the way")
            case Duplicate(seq=seq) | Conflict(seq=seq) if (
                seq is None or work.held.get(seq) != event.key
            ):
                raise StageFault(f"{names}: no claim has named seq {seq} as the holder of the key")
            case Refused():
                raise StageFault(f"{names}: refusing a submission is not for a stage")
