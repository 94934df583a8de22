"""Settles a batch: together in one transaction, without those that are postponed, or one by one.

BEGIN and COMMIT: `BatchProcessor` opens the store's transaction, and nobody else does.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace as replaced
from itertools import islice
from typing import TypeVar

from msgspec.structs import replace

from aggregator.comparison import Verdicts
from aggregator.core.metrics import Metrics
from aggregator.core.quoting import quoted
from aggregator.errors import AggregatorError, StageFault, TryAgain, Unavailable
from aggregator.event import Event, Submission
from aggregator.outcome import Conflict, Duplicate, Outcome, Refused, Stored
from aggregator.pipeline.batch import BatchItem, BatchResult
from aggregator.pipeline.bookkeeping import BatchRecorder
from aggregator.pipeline.maintenance import Job
from aggregator.pipeline.runner import StageRunner
from aggregator.store import Counters, Store
from aggregator.transaction import Postponed, UnitOfWork

log = logging.getLogger(__name__)

R = TypeVar("R")

_NOT_TRIED = "Earlier submissions of the batch took all its time. Try again."
_OF_HELD_KEYS = (Duplicate, Conflict)
_MOST_ATTEMPTS = 10  # at one transaction
_PAUSE = 0.005  # seconds; each retry waits so much longer than the one before, the first not at all


class BatchProcessor:
    """Begins and commits transactions; nobody else does."""

    def __init__(
        self,
        store: Store,
        runner: StageRunner,
        recorder: BatchRecorder,
        metrics: Metrics | None = None,
    ) -> None:
        self.store = store
        self.runner = runner
        self.recorder = recorder
        self.metrics = metrics or Metrics()

    async def settle(self, batch: list[BatchItem], *, is_last: bool) -> BatchResult:
        """Settle what may share a transaction. Raises StoreError: then its fate is unknown.

        What was answered 202 and there is no time for comes again, unless this is the last time.
        """
        if fault := batch[0].final_fault:
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
            counted = await self.recorder.record((), tx, [(submission, fault)])
        return BatchResult([], tx.counters, failed=[(submission, fault)], counted=counted)

    async def _settle_together(self, batch: list[BatchItem], verdicts: Verdicts) -> BatchResult:
        submissions = [item.submission for item in batch]
        async with self.store.transaction() as tx:
            work = UnitOfWork(tx, verdicts=verdicts)
            if submissions[0].is_strict:
                await self._try_strict(batch[0], work)
            else:
                await self._process(batch, work)
            counted = await self.recorder.record(submissions, tx)
            begun = time.perf_counter()
        self.metrics.commit_seconds.observe(time.perf_counter() - begun)
        return BatchResult(submissions, tx.counters, work.effects, counted=counted)

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
            counted = await self.recorder.record(good, tx, failed)
            begun = time.perf_counter()
        self.metrics.commit_seconds.observe(time.perf_counter() - begun)
        return BatchResult(good, tx.counters, work.effects, failed, again, postponed, counted)

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
    held = work.held
    for event in going:
        verdict = event.verdict
        if isinstance(verdict, _OF_HELD_KEYS):
            if verdict.seq is None or held.get(verdict.seq) != event.key:
                raise StageFault(
                    f"{names}: no claim has named seq {verdict.seq} as the holder of the key"
                )
        elif event.outcome is None:
            raise StageFault(f"{names}: event {event.index} was lost on the way")
        elif not isinstance(verdict, Outcome):
            raise StageFault(f"{names}: the verdict of event {event.index} is no outcome")
        elif isinstance(verdict, Refused):
            raise StageFault(f"{names}: refusing a submission is not for a stage")
