"""A history: lives of the service on one disk, with publishers, readers and faults."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from random import Random
from typing import Any
from unittest.mock import patch

from added import INSTALLED
from aggregator import transaction
from aggregator.api.client_address import Clients
from aggregator.api.request.decoder import RequestContext
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.api.stream import CommitNotifier, SharedPoll
from aggregator.app import INTAKE, RECEIVER, WORKER, create_app
from aggregator.config import load
from aggregator.core.budget import Budget, Reservation
from aggregator.errors import StageFault, StoreError, Unavailable
from aggregator.event import Event, Submission
from aggregator.outcome import Duplicate, Filtered, Refused, Stored
from aggregator.pipeline import worker
from aggregator.pipeline.comparer import Comparison
from aggregator.pipeline.runner import NamedStage
from aggregator.plugins import QUEUES, STAGES, Plugins
from aggregator.stage import BatchStage
from aggregator.store import QuarantineQuery, Query
from aggregator.transaction import Transaction
from aggregator_memory.queue import MemoryQueue
from aggregator_memory.store import Committed
from simulation.disk import Chance, SimulatedStore
from simulation.ledger import Ledger, Sent, must
from simulation.loop import SeededLoop

EVENTS, BYTES, LONG = 16, 5_000, 1_000.0  # in the queue, of requests; seconds
SETTINGS: dict[str, Sequence[Any]] = {
    "pipeline": ("validate | odd dedup persist", "validate | dedup odd persist"),
    "key": ("topic,event_id", "topic,/k"),
    "on_conflict": ("keep-first", "reject", "quarantine"),
    "on_invalid": ("refuse", "quarantine"),
    "batch_events": (2, 100, 100),
}
BOUNDS = {"queue_events": EVENTS, "max_events": EVENTS, "stage_timeout": 1.0, "client_share": 1.0}
KINDS = ("", "", "strict", "early", "anew"), ("early", "early", "early", "anew"), ("", "strict")
OURS = [one for one in INSTALLED.found if one.group in (QUEUES, STAGES)]
IDS = re.compile(rb"^id: (\d+)$", re.MULTILINE)


@dataclass
class Odd(BatchStage):
    """Keeps some events out, fails over others, and now and then over any, or takes too long."""

    chance: Chance
    ledger: Ledger

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        await self.chance.pause()
        must(not any(b'"poison"' in event.payload for event in events), "poison")
        for event in events:
            if b'"filter"' in event.payload:
                event.settle(Filtered("as it wants"))
            tx.after_commit(lambda event=event: self._note(event))
        if self.chance.happens(self.chance.stage_fails):
            await asyncio.sleep(self.chance.random.choice((0.0, LONG, LONG)))
            raise KeyError("now and then")
        return [event for event in events if event.outcome is None]

    def _note(self, event: Event) -> None:
        if event.outcome is None or isinstance(event.outcome, Refused):
            self.chance.broken("an effect of what is undone")
        self.ledger.effects[event.submission, event.index] += 1


class OnceQueue(MemoryQueue):
    """Each that it gives comes back once: done, or failed. A broker forgets it then."""

    def __init__(self, chance: Chance) -> None:
        super().__init__("memory:", EVENTS)
        self._chance, self._given = chance, Counter[str]()

    async def take(self, most: int) -> list[Submission]:
        taken = await super().take(most)
        self._given.update(one.id for one in taken)
        return taken

    async def done(self, batch: list[Submission]) -> None:
        await super().done(batch)
        for one in batch:
            self._given[one.id] -= 1
            if self._given[one.id] < 0:
                self._chance.broken("the queue was told twice of one submission")

    @property
    def is_free(self) -> bool:
        return not self._events and not self._given.total()


class Life(Plugins):
    """One start of the service, until it is killed or has stopped."""

    def __init__(self, random: Random, ledger: Ledger, settings: Any, until_kill: int) -> None:
        super().__init__(OURS)
        store_fails = random.choice((0.0, 0.0, 0.01, 0.05, 0.2))
        stage_fails, is_slow = random.choice((0.0, 0.05, 0.9)), random.choice((0.0, 0.1, 0.5))
        self.chance = Chance(random, store_fails, stage_fails, is_slow, until_kill)
        self.random, self.ledger, self.kinds = random, ledger, random.choice(KINDS)
        self._store = SimulatedStore(ledger.disk, self.chance, ledger.note_quarantine)
        self.app = create_app(load(settings, {}), self, self.chance.broken)
        self.pending = self.app[INTAKE].pending
        self.budget, self.commits, self.position = Budget(BYTES, "it"), CommitNotifier(), 0
        sender = Sender(Budget(BYTES, "answers"), Clients(), 30.0)
        self.poll = SharedPoll(ReadLimiter(self._store, sender, 2), self.commits)

    def store(self, _: Any) -> SimulatedStore:
        return self._store

    def queue(self, _: Any) -> OnceQueue:
        self._queue = OnceQueue(self.chance)
        return self._queue

    def _stage(self, name: str, *about: Any) -> NamedStage:
        odd = NamedStage(name, Odd(self.chance, self.ledger))
        return odd if name == "odd" else super()._stage(name, *about)

    async def live(self, *, is_stopped: bool) -> None:
        """Publish and read, until it is killed, is asked to stop, or everything is settled."""
        self.app.on_startup.freeze()
        await self.app.startup()
        self.chance.is_on = True
        start = asyncio.get_running_loop().create_task
        publishers = [start(self._watched(self._publish_some)) for _ in range(8)]
        readers = [start(self._watched(one)) for one in (self._follow, self._watch)]
        ending = (self._stop,) if is_stopped else (self._settle, publishers)
        end = start(self._watched(*ending))
        killing = asyncio.create_task(self.chance.killed.wait())
        try:
            await asyncio.wait({end, killing}, return_when=asyncio.FIRST_COMPLETED)
            self.chance.is_on = False
            if is_killed := self.chance.killed.is_set():  # though it has just ended, too
                self.ledger.excused |= self.pending.answered_early.keys()
            else:
                for one in readers:
                    one.cancel()
                await asyncio.sleep(LONG)
                must(all(one.done() for one in publishers), "somebody was never told")
                must(not self.pending.snapshot().queued, "under way", self.pending.answered_early)
                must(self.budget.held == 0, "bytes are still held", self.budget.held)
                must(not self.pending.events.by_client, "a share", self.pending.events.by_client)
                must(self._queue.is_free, "the queue's room is not free")
                must(len(asyncio.all_tasks()) == 2, "tasks are left", asyncio.all_tasks())
        finally:
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for one in others:
                    one.cancel()
                await asyncio.wait(others)
        if self.chance.problems:
            raise self.chance.problems[0]
        self.ledger.settle(is_honest=not (is_killed or self.chance.store_fails))

    async def _watched(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await work(*args)
        except Exception as error:
            self.chance.problems.append(error)
            self.chance.killed.set()  # what is wrong ends everything

    async def _stop(self) -> None:
        await asyncio.sleep(self.random.choice((0.001, 0.1, 1.0, 10.0)))
        self.app[INTAKE].is_open = False
        await self.app.cleanup()

    async def _settle(self, publishers: Sequence[asyncio.Task[None]]) -> None:
        """Let everybody be told; then all that was taken has to be free again."""
        await asyncio.wait(publishers, timeout=LONG)
        self.chance.is_on = False
        await asyncio.sleep(LONG)
        must(not self.app[WORKER].done(), "the worker has died")
        must(self.pending.counters == self.ledger.disk.counters, "old counters")
        probe = [Sent("a", name, name, 1) for name in map(str, range(10**9, 10**9 + EVENTS))]
        told = ""
        with suppress(Unavailable):
            told = await self._publish(probe, {}, BYTES)
        must(told == "answered", "there is no room")
        await asyncio.sleep(LONG)
        must(self.position == len(self.ledger.disk.events), "the reader was not woken")
        await self._stop()

    async def _publish_some(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            await asyncio.sleep(self.random.choice((0.0, 0.0, 0.0, 0.001, 0.5, 40.0)))
            kind = self.random.choice(self.kinds)
            sent = [Sent.drawn(self.random) for _ in range(self.random.choice((0, 1, 1, 2, 4)))]
            if sent and self.random.random() < 0.3:
                sent.append(self.random.choice(sent)._replace(is_respelled=True))
            how = {"is_strict": kind == "strict", "respond_async": kind == "early"}
            with suppress(TimeoutError, Unavailable):
                async with asyncio.timeout(self.random.choice((LONG, LONG, LONG, 0.01))):
                    await (self._release() if kind == "anew" else self._publish(sent, how))

    async def _publish(self, sent: list[Sent], how: Any, size: int = 0) -> str:
        context = RequestContext(f"{self.random.getrandbits(60)}", 1_800_000_000_000_000)
        body = f"[{','.join(one.body for one in sent)}]".encode()
        with self.budget.reserve("one") as reservation:
            reservation.take(size or len(body))
            await self.chance.pause()
            # Without events: as a drop from quarantine, here of nothing.
            events = self.app[RECEIVER].decoder.json(body, context) if sent else []
            one = Submission(context.submission, events, **how)
            return await self._take(one, sent, reservation)

    async def _release(self) -> None:
        found = (await self._store.quarantined(QuarantineQuery(limit=4))).entries
        for entry in self.random.sample(found, min(1, len(found))):
            context = RequestContext(f"{self.random.getrandbits(60)}", 1_800_000_000_000_000)
            with self.budget.reserve("one") as reservation:
                events = await self.app[RECEIVER].receive_anew([entry], context, reservation)
                one = Submission(context.submission, events, released=[entry.id])
                told = await self._take(one, [Sent.read(entry.body)], reservation)
            if told == "answered" and isinstance(events[0].outcome, Stored | Duplicate | Filtered):
                must(entry.id not in self.ledger.disk.quarantine.entries, "still there", entry)

    async def _take(self, one: Submission, sent: list[Sent], reservation: Reservation) -> str:
        """Hand it to the service, and hold what is told against the ledger."""
        self.ledger.send(one, sent)
        told = "unknown"
        try:
            await self.app[INTAKE].take(one, reservation)
            told = "unknown" if self.chance.killed.is_set() else "answered"
        except StageFault:
            told = "failed"
            poison = [event for event in sent if event.act == "poison"]
            must(poison or self.chance.stage_fails, "failed for nothing", sent)
        except Unavailable as error:
            told = "unknown" if isinstance(error, StoreError) else "refused"
        finally:
            is_open = one.id in self.pending.answered_early
            must(reservation.is_kept or not is_open, "its bytes are not held", sent)
            self.ledger.told(one, told)
        return told

    async def _follow(self) -> None:
        """Every seq once, in order."""
        while True:
            seen, next_, is_end = self.commits.number, self.position + 1, True
            with suppress(Unavailable):
                found = await self.poll.poll(Query(after=self.position, limit=3))
                seqs = [int(one) for text in found.messages for one in IDS.findall(text)]
                must(seqs == list(range(next_, found.position + 1)), "seqs", next_, seqs)
                self.position, is_end = found.position, found.is_end
            await self.commits.wait(seen if is_end else -1, 5.0)

    async def _watch(self) -> None:
        newest = 0
        while True:
            newest = await self._store.changed(newest)
            self.commits.announce()


def run_history(seed: int) -> Ledger:
    """Raises AssertionError where the service has broken its word."""
    random = Random(seed)
    settings = BOUNDS | {name: random.choice(values) for name, values in SETTINGS.items()}
    ledger = Ledger(Committed(), str(settings["key"]))

    def hear(record: logging.LogRecord) -> bool:
        if "is lost" in record.msg and isinstance(record.args, tuple):
            ledger.excused.add(str(record.args[0]))
        return False

    few, most = random.choice((0, 200, 10**6)), random.choice((400, 10**6, 10**6))
    at_once = patch.object(transaction, "COMPARED_AT_ONCE", few)
    logging.disable(logging.ERROR)
    worker.log.addFilter(hear)
    try:
        for lives_left in reversed(range(random.randint(1, 3))):
            draw, loop = Random(f"{seed} {lives_left}"), SeededLoop(Random(f"{seed}{lives_left}"))
            until_kill = draw.choice((-1, draw.randrange(1, 400))) if lives_left else -1
            is_stopped = lives_left > 0 and draw.random() < 0.5
            life = Life(draw, ledger, settings, until_kill)
            with closing(loop), at_once, patch.object(Comparison, "most", most):
                loop.run_until_complete(life.live(is_stopped=is_stopped))
        ledger.check()
    finally:
        worker.log.removeFilter(hear)
        logging.disable(logging.NOTSET)
    return ledger
