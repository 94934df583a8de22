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
from dataclasses import replace as replaced
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

from msgspec.structs import replace

from aggregator.comparison import Verdicts
from aggregator.core.fault_log import Seldom
from aggregator.core.quoting import quoted
from aggregator.errors import (
    AggregatorError,
    StageFault,
    StoreError,
    StoreFault,
    TryAgain,
    Unavailable,
)
from aggregator.event import Event, Pending, Submission
from aggregator.outcome import Conflict, Duplicate, Outcome, Refused, Stored
from aggregator.pipeline.bookkeeping import BatchRecorder
from aggregator.pipeline.comparer import Comparer, Comparison
from aggregator.pipeline.effects import EffectRunner
from aggregator.pipeline.maintenance import Job, Maintenance
from aggregator.pipeline.pending import PendingSubmissions
from aggregator.pipeline.runner import StageRunner
from aggregator.queue import Queue
from aggregator.store import Counters, Store
from aggregator.transaction import Effect, Postponed, UnitOfWork

log = logging.getLogger(__name__)

R = TypeVar("R")

_FIRST_PAUSE = 0.1  # seconds between attempts to get a failed store back, doubled each time
_LONGEST_PAUSE = 5.0
_LONGEST_BATCH = 10.0  # seconds
_NOT_TRIED = "Earlier submissions of the batch took all its time. Try again."
_MOST_ATTEMPTS = 10  # at one transaction
_PAUSE = 0.005  # seconds; each retry waits so much longer than the one before, the first not at all
_MOST_LATE = 2  # how often what ran out of time is tried again
_MOST_FAULTS = 3  # of the store, at what was answered 202, before it goes into quarantine
_LONGEST_COMPARISON = 5.0  # seconds that contents are still compared once the service stops
_MOST_LAST_FAILURES = 20  # of the store while the service stops, though it could be opened again


@dataclass(eq=False)
class BatchItem:
    """A submission, those of its events that the intake left open, and what was tried in vain."""

    submission: Submission
    going: list[Event]
    late: int = 0
    """How often there was no time for it."""
    failures: int = 0
    """How often the store failed while it was settled."""
    faults: int = 0
    """How often the store raised what nobody foresaw then: this may be the cause."""
    due: float = 0.0
    """When to try again, by the clock of the event loop."""
    comparison: Comparison | None = None
    """What no batch had room to compare."""
    fault: AggregatorError | None = None
    """Why it cannot be settled, where that is known before it is tried."""

    @classmethod
    def of(cls, submission: Submission) -> "BatchItem":
        """The submission as it comes from the queue."""
        going = [event for event in submission.events if type(event.verdict) is Pending]
        return cls(submission, going)

    @property
    def is_alone(self) -> bool:
        """Whether it has a transaction of its own, so that the others are stored without it."""
        return self.submission.is_strict or self.faults > 0 or self.fault is not None

    @property
    def may_wait(self) -> bool:
        """Whether it may run out of time once more: who is slow for ever must not keep others."""
        return self.late < _MOST_LATE

    @property
    def goes_aside(self) -> bool:
        """Whether it goes into quarantine next; where that fails too, it is tried as before."""
        return self.faults >= _MOST_FAULTS and (self.faults - _MOST_FAULTS) % 2 == 0

    def has_failed(self, error: StoreError, is_its_own: bool = False) -> None:
        """Count a failure of the store, and say when to try again.

        It is the item's own where only what this one asks for could not be read.
        """
        # Counted also where going aside fails in whatever way: or it would do so for ever.
        self.faults += is_its_own or isinstance(error, StoreFault) or self.goes_aside
        self.failures += 1
        self.due = asyncio.get_running_loop().time() + self.pause

    @property
    def pause(self) -> float:
        """Seconds to wait before it is tried again.

        None after the first failure. Nor before it goes aside: else one that fails beside many, for
        want of the store, would be taken for the cause once the store is well again.
        """
        if self.failures < 2 or self.goes_aside:
            return 0.0
        return min(_FIRST_PAUSE * (1 << min(self.failures, 10)), _LONGEST_PAUSE)

    def postpone(self, postponed: Postponed) -> None:
        """Have compared what it is postponed for."""
        self.comparison = self.comparison or Comparison(self.submission)
        pairs = postponed.by_submission[self.submission.id]
        self.comparison.ask(pairs, postponed.uncommitted)
        self.reopen()

    def reopen(self) -> None:
        """Forget what became of its events, which was rolled back."""
        for event in self.going:
            event.reopen()


def batches(items: Sequence[BatchItem]) -> Iterator[list[BatchItem]]:
    """One batch of all lenient submissions, then one for each strict submission.

    In order of arrival a few strict ones would split the commit that the lenient ones share. What
    the store may never take is alone too, so that the others are stored without it, and before it.
    """
    if together := [item for item in items if not item.is_alone]:
        yield together
    alone = [item for item in items if item.is_alone]
    yield from ([item] for item in sorted(alone, key=attrgetter("failures")))


@dataclass(frozen=True)
class BatchResult:
    """The result of a committed batch: the submissions stored, and the counters after them.

    `effects` are to be run next. The submissions in `failed` left no event in the store; for those
    in `again` there was no time, and they are to be tried again. What is `postponed` is first to be
    compared. The counters are None where there was nothing to commit.
    """

    stored: list[Submission]
    counters: Counters | None
    effects: Sequence[Effect] = ()
    failed: list[tuple[Submission, AggregatorError]] = field(default_factory=list)
    again: list[BatchItem] = field(default_factory=list)
    postponed: list[BatchItem] = field(default_factory=list)


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
            self._taking = self._taking or asyncio.create_task(self.queue.take(self.batch_events))
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
        return list(map(BatchItem.of, taken))

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
            await asyncio.sleep(_FIRST_PAUSE)

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
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
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

        What was answered 202 and there is no time for comes again, unless this is the last time.
        """
        if fault := batch[0].fault or (_never_stored() if batch[0].goes_aside else None):
            return await _with_retries(lambda: self._set_aside(batch[0].submission, fault))

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
        """Together if that can be; without those that are postponed; else one by one."""
        verdicts: Verdicts = {}
        for item in batch:
            if item.comparison:
                verdicts |= item.comparison.verdicts
        try:
            return await self._settle_together(batch, verdicts)
        except StageFault as fault:
            log.debug("%s; replaying %d submissions one by one", fault, len(batch))
            return await self._replay(batch, verdicts, is_last)
        except Postponed as postponed:
            out, left = _parted(batch, postponed)
        if not left:
            return BatchResult([], None, postponed=out)
        try:
            result = await self._settle_together(left, verdicts)
        except (StageFault, Postponed):
            result = await self._replay(left, verdicts, is_last)
        return replaced(result, postponed=out + result.postponed)

    async def _set_aside(self, submission: Submission, fault: AggregatorError) -> BatchResult:
        """Put into quarantine what cannot be stored; no stage sees it any more.

        Who waits sends it again, and nothing is recorded of it: so nobody has to wait for a commit.
        """
        if not submission.respond_async:
            return BatchResult([], None, failed=[(submission, fault)])
        async with self.store.transaction() as tx:
            await self.recorder.record((), tx, [(submission, fault)])
        return BatchResult([], tx.counters, failed=[(submission, fault)])

    async def _settle_together(self, batch: list[BatchItem], verdicts: Verdicts) -> BatchResult:
        submissions = [item.submission for item in batch]
        async with self.store.transaction() as tx:
            work = UnitOfWork(tx, verdicts=verdicts)
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

    async def _replay(
        self, batch: list[BatchItem], verdicts: Verdicts, is_last: bool
    ) -> BatchResult:
        """Each submission in a savepoint of one new transaction, so that only the bad fail."""
        good: list[Submission] = []
        failed: list[tuple[Submission, AggregatorError]] = []
        again: list[BatchItem] = []
        postponed: list[BatchItem] = []
        clock = asyncio.get_running_loop()
        deadline = clock.time() + 3 * self.runner.timeout
        async with self.store.transaction() as tx:
            work = UnitOfWork(tx, verdicts=verdicts)
            for item in batch:
                is_late = clock.time() > deadline
                fault = Unavailable(_NOT_TRIED) if is_late else await self._attempt(item, work)
                if fault is None:
                    good.append(item.submission)
                elif isinstance(fault, Postponed):
                    item.postpone(fault)
                    postponed.append(item)
                else:
                    item.reopen()
                    if is_late and item.submission.respond_async and not is_last and item.may_wait:
                        again.append(item)  # nobody would send it again
                    else:
                        failed.append((item.submission, fault))
            await self.recorder.record(good, tx, failed)
        return BatchResult(good, tx.counters, work.effects, failed, again, postponed)

    async def _attempt(
        self, item: BatchItem, work: UnitOfWork
    ) -> AggregatorError | Postponed | None:
        item.reopen()
        done = len(work.effects), len(work.appended)
        try:
            if item.submission.is_strict:
                await self._try_strict(item, work)
            else:
                async with work.tx.savepoint():
                    await self._process([item], work)
        except (StageFault, Postponed) as fault:
            work.undo(*done)
            if isinstance(fault, Postponed) and item.submission.id not in fault.by_submission:
                return StageFault(f"{self.runner.names}: compared events that were not given")
            return fault
        return None

    async def _process(self, batch: Sequence[BatchItem], work: UnitOfWork) -> None:
        before = len(work.appended)
        going = [event for item in batch for event in item.going]
        left = await self.runner.run(going, work)
        try:
            if left:
                raise StageFault(  # noqa: TRY301, it is reported as those of the runner are
                    f"{self.runner.names}: event {left[0].index} on topic "
                    f"{quoted(left[0].topic)} came through without an outcome; is there a stage "
                    "that stores it?"
                )
            _check_seqs(going, work, before, self.runner.names)
        except StageFault as fault:
            self.runner.report(fault)
            raise


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


def _never_stored() -> StoreFault:
    return StoreFault(f"the store failed {_MOST_FAULTS} times over it; the log says more")


def _parted(
    batch: Sequence[BatchItem], postponed: Postponed
) -> tuple[list[BatchItem], list[BatchItem]]:
    """Those that are postponed, and the others, made ready to be run again."""
    out: list[BatchItem] = []
    left: list[BatchItem] = []
    for item in batch:
        if item.submission.id in postponed.by_submission:
            item.postpone(postponed)
            out.append(item)
        else:
            item.reopen()
            left.append(item)
    return out, left


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
            case outcome if not isinstance(outcome, Outcome):
                raise StageFault(f"{names}: the verdict of event {event.index} is no outcome")
            case Duplicate(seq=seq) | Conflict(seq=seq) if (
                seq is None or work.held.get(seq) != event.key
            ):
                raise StageFault(f"{names}: no claim has named seq {seq} as the holder of the key")
            case Refused():
                raise StageFault(f"{names}: refusing a submission is not for a stage")
