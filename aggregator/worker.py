"""Settles what the queue holds: batch after batch, each in one transaction.

While one commit is on its way, what arrives gathers into the next batch: batches are large under
load and immediate when idle, without a timer.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from aggregator.errors import AggregatorError, StageFault, StoreError, Unavailable
from aggregator.event import Event, Submission
from aggregator.ledger import Ledger
from aggregator.outcome import Conflict, Duplicate, Stored
from aggregator.pipeline import Line
from aggregator.queue import Queue
from aggregator.store import Counters, Store, StoreTransaction
from aggregator.transaction import UnitOfWork

log = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1  # seconds between attempts to get a failed store back, doubled each time
_LONGEST_PAUSE = 5.0
_LONGEST_BATCH = 10.0  # seconds
_BY_TOPIC = (Stored, Duplicate, Conflict)


@dataclass(frozen=True)
class _Part:
    """A submission, and those of its events that the intake left open."""

    submission: Submission
    going: list[Event]


class Worker:
    """The one task that begins and commits transactions."""

    def __init__(
        self, store: Store, queue: Queue, line: Line, ledger: Ledger, batch_events: int
    ) -> None:
        self.store = store
        self.queue = queue
        self.line = line
        self.ledger = ledger
        self.batch_events = batch_events
        self.trouble = ""
        """Why nothing can be stored just now; empty while all is well."""
        self._stopping = asyncio.Event()
        self._begun: float | None = None

    async def run(self) -> None:
        """Work until the queue is closed and empty."""
        clock = asyncio.get_running_loop()
        while batch := await self.queue.take(self.batch_events):
            self._begun = clock.time()
            try:
                await self._settle([_part(submission) for submission in batch])
            except StoreError as error:
                self.ledger.fail(batch, error)
                await self.queue.failed(batch)
                await self._recover(error)
            else:
                await self.queue.done(batch)
            self._begun = None

    @property
    def hangs(self) -> bool:
        """Whether the batch under way has taken so long that the disk may never answer."""
        clock = asyncio.get_running_loop()
        return self._begun is not None and clock.time() - self._begun > _LONGEST_BATCH

    async def stop(self) -> None:
        """Let `run` end once everything accepted is settled."""
        self._stopping.set()
        await self.queue.close()

    async def _settle(self, parts: list[_Part]) -> None:
        if self.trouble:  # not mended before the service began to stop
            raise StoreError(self.trouble)
        try:
            async with self.store.transaction() as tx:
                work = UnitOfWork(tx)
                await self._process(parts, work)
                counters = await _count(parts, tx)
        except StageFault as fault:
            log.error("%s; replaying %d submissions one by one", fault, len(parts))
            await self._replay(parts)
        else:
            self._acknowledge(parts, counters, work)

    async def _replay(self, parts: list[_Part]) -> None:
        """Each submission in a savepoint of one new transaction, so that only the bad fail."""
        good: list[_Part] = []
        failed: list[tuple[_Part, AggregatorError]] = []
        clock = asyncio.get_running_loop()
        deadline = clock.time() + 3 * self.line.timeout
        async with self.store.transaction() as tx:
            work = UnitOfWork(tx)
            for part in parts:
                is_late = clock.time() > deadline
                fault = _NOT_TRIED if is_late else await self._attempt(part, work)
                if fault:
                    failed.append((part, fault))
                else:
                    good.append(part)
            counters = await _count(good, tx)
        self._acknowledge(good, counters, work)
        for part, fault in failed:
            log.error("submission %s failed: %s", part.submission.id, fault)
            self.ledger.fail([part.submission], fault)

    async def _attempt(self, part: _Part, work: UnitOfWork) -> AggregatorError | None:
        for event in part.going:
            event.reopen()
        done = len(work.effects), len(work.appended)
        try:
            async with work.tx.savepoint():
                await self._process([part], work)
        except StageFault as fault:
            work.undo(*done)
            return fault
        return None

    async def _process(self, parts: Sequence[_Part], work: UnitOfWork) -> None:
        before = len(work.appended)
        going = [event for part in parts for event in part.going]
        left = await self.line.run(going, work)
        if left:
            raise StageFault(
                f"{self.line.names}: event {left[0].index} on topic {left[0].topic!r} came through "
                "without an outcome; is there a stage that stores it?"
            )
        _check_seqs(going, work, before, self.line.names)

    def _acknowledge(self, parts: Sequence[_Part], counters: Counters, work: UnitOfWork) -> None:
        for effect in work.effects:
            try:
                effect()
            except Exception:
                log.exception("after the commit, a stage's effect failed; the events are stored")
        self.ledger.settle([part.submission for part in parts], counters)

    async def _recover(self, error: StoreError) -> None:
        """Acknowledge nothing until the store is proved again, or the service stops."""
        pause = _FIRST_PAUSE
        self.trouble = str(error)
        while not self._stopping.is_set():
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
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self.ledger.fail_waiting(StoreError(self.trouble))


_NOT_TRIED: AggregatorError = Unavailable(
    "Earlier submissions of the batch took all its time. Try again."
)


def _part(submission: Submission) -> _Part:
    return _Part(submission, [event for event in submission.events if event.outcome is None])


def _check_seqs(going: Sequence[Event], work: UnitOfWork, before: int, names: str) -> None:
    """Raise StageFault unless what the events are told is what happened in the store."""
    stored: dict[int, bytes] = {}
    for event in going:
        match event.outcome:
            case None:
                raise StageFault(f"{names}: event {event.index} was lost on the way")
            case Stored(seq=seq) if seq not in stored:
                stored[seq] = event.key
            case Stored(seq=seq):
                raise StageFault(f"{names}: two events are told that they are stored as {seq}")
            case Duplicate(seq=seq) | Conflict(seq=seq) if work.held.get(seq) != event.key:
                raise StageFault(f"{names}: no claim has named seq {seq} as the holder of the key")
    if stored != dict(islice(work.appended.items(), before, None)):
        raise StageFault(f"{names}: the events settled as stored are not those that were appended")


async def _count(parts: Sequence[_Part], tx: StoreTransaction) -> Counters:
    """Count what the intake decided and what the worker decided, in the same transaction."""
    settled = [event for part in parts for event in part.submission.events]
    counted = Counter(event.outcome.status for event in settled if event.outcome)
    by_topic: dict[str, Counter[str]] = {}
    for event in settled:
        if isinstance(event.outcome, _BY_TOPIC):
            by_topic.setdefault(event.topic, Counter())[event.outcome.status] += 1
    return await tx.count(
        Counters(**counted), {topic: Counters(**counts) for topic, counts in by_topic.items()}
    )
