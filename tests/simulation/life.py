"""A history: lives of the service on one disk, with publishers, readers and faults."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from msgspec.structs import replace

from added import INSTALLED
from aggregator.api.export import Cursor
from aggregator.api.request.decoder import RequestContext
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.api.stream import CommitNotifier, SharedPoll
from aggregator.app import INTAKE, RECEIVER, WORKER, create_app
from aggregator.config import load
from aggregator.core.budget import ByteBudget
from aggregator.errors import StageFault, StoreError, Unavailable
from aggregator.event import Event, Submission
from aggregator.outcome import Duplicate, Filtered, Refused, Stored
from aggregator.pipeline.runner import NamedStage
from aggregator.plugins import QUEUES, STAGES, Plugins
from aggregator.stage import BatchStage
from aggregator.store import QuarantineQuery, Query
from aggregator.transaction import Transaction
from aggregator_memory.store import Committed
from simulation.disk import Chance, SimulatedStore
from simulation.ledger import Ledger, Sent, must
from simulation.loop import SeededLoop

MOST_EVENTS, MOST_BYTES = 16, 5_000
LONG = 1_000.0  # seconds, of virtual time
SETTINGS = {
    "pipeline": ("validate | odd dedup persist", "validate | dedup odd persist"),
    "key": ("topic,event_id", "topic,/k"),
    "on_conflict": ("keep-first", "reject", "quarantine"),
    "on_invalid": ("refuse", "quarantine"),
    "batch_events": (1, 4, 100, 100),
    "quarantine_bytes": (1_500, 1_000_000),
}
KINDS = ("", "", "strict", "early", "anew"), ("early", "early", "early", "anew"), ("", "strict")
OURS = [one for one in INSTALLED.found if one.group in (QUEUES, STAGES)]
IDS = re.compile(rb"^id: (\d+)$", re.MULTILINE)


class Odd(BatchStage):
    """Keeps some events out, fails over others, and now and then over any, or takes too long."""

    def __init__(self, chance: Chance, ledger: Ledger) -> None:
        self._chance = chance
        self._ledger = ledger

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        await self._chance.pause()
        for event in events:
            if b'"act": "poison"' in event.payload:
                raise ValueError("poison")
            if b'"act": "filter"' in event.payload:
                event.settle(Filtered("as it wants"))
            tx.after_commit(lambda event=event: self._after(event))
        if self._chance.happens(self._chance.stage_fails):
            await asyncio.sleep(self._chance.random.choice((0.0, LONG, LONG)))
            raise KeyError("now and then")
        return [event for event in events if event.outcome is None]

    def _after(self, event: Event) -> None:
        must(event.outcome and type(event.outcome) is not Refused, "an effect of what is undone")
        self._ledger.effects[event.submission, event.index] += 1


class Simulated(Plugins):
    """What is installed, with our store and our stage."""

    def __init__(self, store: SimulatedStore, odd: Odd) -> None:
        super().__init__(OURS)
        self._store = store
        self._odd = odd

    def store(self, _: Any) -> SimulatedStore:
        return self._store

    def _stage(self, name: str, *about: Any) -> NamedStage:
        return NamedStage(name, self._odd) if name == "odd" else super()._stage(name, *about)


class Life:
    """One start of the service, until it is killed or has stopped."""

    def __init__(self, random: Random, ledger: Ledger, settings: Any, **odds: Any) -> None:
        self.random = random
        self.ledger = ledger
        self.problems: list[Exception] = []
        self.chance = Chance(random, killed=asyncio.Event(), is_on=False, **odds)
        self.store = SimulatedStore(ledger.disk, self.chance, self._broken)
        self.store.after_commit = ledger.note_quarantine
        plugins = Simulated(self.store, Odd(self.chance, ledger))
        self.app = create_app(load(settings, {}), plugins, self._broken)
        self.budget = ByteBudget(MOST_BYTES, "requests")
        self.commits = CommitNotifier()
        reading = ReadLimiter(self.store, Sender(ByteBudget(MOST_BYTES, "answers"), 30.0), 2)
        self.poll = SharedPoll(reading, self.commits)
        self.positions = [0, 0]  # of those who follow
        self.kinds = random.choice(KINDS)

    async def live(self, *, is_stopped: bool) -> None:
        """Publish and read, until it is killed, is asked to stop, or everything is settled."""
        self.app.on_startup.freeze()
        await self.app.startup()
        self.chance.is_on = True
        publishers = [self._watched(self._publish_some) for _ in range(8)]
        readers = [self._watched(self._follow, number) for number in range(2)]
        readers += [self._watched(self._export), self._watched(self._watch)]
        end = self._watched(*((self._stop,) if is_stopped else (self._settle, publishers)))
        killing = asyncio.create_task(self.chance.killed.wait())
        try:
            await asyncio.wait({end, killing}, return_when=asyncio.FIRST_COMPLETED)
            self.chance.is_on = False
            if is_killed := killing.done():
                self.ledger.excused |= self.app[INTAKE].pending.answered_early.keys()
            else:
                await asyncio.wait(publishers, timeout=LONG)
                must(all(one.done() for one in publishers), "somebody was never told")
                for one in readers:
                    one.cancel()
                await asyncio.sleep(LONG)
                self._check_all_is_back(asyncio.all_tasks() - {killing, asyncio.current_task()})
        finally:
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for one in sorted(others, key=asyncio.Task.get_name):
                    one.cancel()
                await asyncio.wait(others)
        if self.problems:
            raise self.problems[0]
        self.ledger.settle(is_honest=not (is_killed or self.chance.store_fails))

    def _check_all_is_back(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Everybody was told, and nothing is held any more."""
        pending = self.app[INTAKE].pending
        must(pending.snapshot().queued == 0, "still under way", pending.answered_early)
        must(self.budget.held == 0, "bytes are still held", self.budget.held)
        must(not tasks, "tasks are left", tasks)

    def _watched(self, work: Callable[..., Awaitable[None]], *args: Any) -> asyncio.Task[None]:
        """What is found to be wrong ends everything."""

        async def watched() -> None:
            try:
                await work(*args)
            except Exception as error:
                self.problems.append(error)
                self.chance.killed.set()

        return asyncio.create_task(watched())

    def _broken(self, what: str) -> None:
        self.problems.append(AssertionError(what))

    async def _stop(self) -> None:
        await asyncio.sleep(self.random.choice((0.001, 0.1, 1.0, 10.0)))
        self.app[INTAKE].is_open = False
        await self.app.cleanup()

    async def _settle(self, publishers: Sequence[asyncio.Task[None]]) -> None:
        """Let everybody be told; then all that was taken has to be free again."""
        await asyncio.wait(publishers, timeout=LONG)
        self.chance.is_on = False
        await asyncio.wait(publishers)
        pending = self.app[INTAKE].pending
        for _ in range(1000):
            if self.app[WORKER].done():
                self.app[WORKER].result()
            if not pending.snapshot().queued and not self.app[INTAKE].worker.trouble:
                break
            await asyncio.sleep(1.0)
        counters = self.ledger.disk.counters
        must(pending.snapshot().counters == counters, "old counters", pending.counters, counters)
        new = [Sent("a", f"probe {n}", "", self.random.getrandbits(60)) for n in range(MOST_EVENTS)]
        probe = [one._replace(event_id=f"{one.n}", k=f"{one.n}") for one in new]
        must(await self._publish(probe, {}, MOST_BYTES) == "answered", "there is no room")
        while min(self.positions) < len(self.ledger.disk.events):
            await asyncio.sleep(1.0)
        await self._stop()

    async def _publish_some(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            await asyncio.sleep(self.random.choice((0.0, 0.0, 0.0, 0.001, 0.5, 40.0)))
            kind = self.random.choice(self.kinds)
            if kind == "anew":
                await self._from_quarantine()
                continue
            events = [Sent.drawn(self.random) for _ in range(self.random.choice((1, 1, 2, 4)))]
            if self.random.random() < 0.3:
                events.append(self.random.choice(events)._replace(is_spelled_otherwise=True))
            how = {"is_strict": kind == "strict", "respond_async": kind == "early"}
            with suppress(TimeoutError):
                async with asyncio.timeout(self.random.choice((LONG, LONG, LONG, 0.01))):
                    await self._publish(events, how, sum(len(one.body) for one in events))

    async def _publish(self, sent: list[Sent], how: Any, size: int) -> str:
        name = f"{self.random.getrandbits(60)}"
        body = f"[{','.join(one.body for one in sent)}]".encode()
        with self.budget.reserve() as reservation:
            with suppress(Unavailable):
                reservation.take(size)
                await self.chance.pause()
                context = RequestContext(name, 1_800_000_000_000_000)
                events = self.app[RECEIVER].decoder.json(body, context)
                submission = Submission(name, events, **how)
                return await self._take(submission, sent, reservation)
        return "refused"

    async def _take(self, submission: Submission, sent: list[Sent], reservation: Any) -> str:
        """Hand it to the service, and hold what is told against the ledger."""
        self.ledger.send(submission, sent)
        told = "unknown"
        try:
            settled = await self.app[INTAKE].take(submission, reservation)
            told = "unknown" if self.chance.killed.is_set() else "answered"
        except StageFault:
            has_poison = any(one.act == "poison" for one in sent)
            must(has_poison or self.chance.stage_fails, "failed for nothing", sent)
            told = "failed"
        except StoreError:
            pass
        except Unavailable:
            told = "refused"
        finally:
            if told in ("failed", "refused"):
                self.ledger.nothing.add(submission.id)
            elif told == "unknown" and not submission.respond_async:
                self.ledger.unsure += len(sent)
        if told == "answered" and submission.respond_async:
            self.ledger.early.add(submission.id)
            is_settled = submission.id not in self.app[INTAKE].pending.answered_early
            must(is_settled or reservation.is_kept, "its bytes are not held", sent)
        elif told == "answered":
            self.ledger.answered(settled)
        return told

    async def _from_quarantine(self) -> None:
        """Release one event from quarantine, or drop it."""
        with suppress(Unavailable), self.budget.reserve() as reservation:
            found = await self.store.quarantined(QuarantineQuery(limit=4))
            if not found.entries:
                return
            entry = self.random.choice(found.entries)
            name = f"{self.random.getrandbits(60)}"
            if self.random.random() < 0.2:
                self.ledger.dropped.add(entry.id)
                await self._take(Submission(name, [], dropped=[entry.id]), [], reservation)
                return
            context = RequestContext(name, 1_800_000_000_000_000)
            events = await self.app[RECEIVER].receive_anew([entry], context, reservation)
            submission = Submission(name, events, released=[entry.id])
            told = await self._take(submission, [Sent.read(entry.body)], reservation)
            if told == "answered" and type(events[0].outcome) in (Stored, Duplicate, Filtered):
                is_there = entry.id in self.ledger.disk.quarantine.entries
                must(not is_there, "released, and still in quarantine", entry)

    async def _follow(self, number: int) -> None:
        """Every seq once, in order."""
        while True:
            seen, position = self.commits.number, self.positions[number]
            with suppress(Unavailable):
                found = await self.poll.poll(Query(after=position, limit=2 + number))
                seqs = [int(one) for text in found.messages for one in IDS.findall(text)]
                must(seqs == list(range(position + 1, found.position + 1)), "stream", position, seqs)
                self.positions[number] = found.position
                seen = seen if found.is_end else -1
            await self.commits.wait(seen, 5.0)

    async def _export(self) -> None:
        """Everything there was when it began, from either end."""
        while True:
            await asyncio.sleep(self.random.choice((0.01, 1.0, 9.0)))
            with suppress(Unavailable):
                newest = (await self.store.span()).newest
                wanted = Query(limit=10**6, descending=self.random.random() < 0.5)
                cursor, lines = Cursor(wanted, newest), b""
                while not cursor.is_over:
                    lines += cursor.render(await self.store.events(replace(cursor.query, limit=3)))
                seqs = [json.loads(line)["seq"] for line in lines.splitlines()]
                must(sorted(seqs, reverse=wanted.descending) == seqs, "export in order", seqs)
                must(sorted(seqs) == list(range(1, newest + 1)), "export", seqs, newest)

    async def _watch(self) -> None:
        """Wake those who follow."""
        newest = 0
        while True:
            newest = await self.store.changed(newest)
            self.commits.announce()


def run_history(seed: int) -> Ledger:
    """Raises AssertionError where the service has broken its word."""
    random = Random(seed)
    settings = {name: random.choice(values) for name, values in SETTINGS.items()}
    settings |= {"queue_events": MOST_EVENTS, "max_events": MOST_EVENTS, "stage_timeout": 1.0}
    ledger = Ledger(Committed(), settings["key"], settings["on_conflict"])
    log, lost = logging.getLogger("aggregator"), Lost(ledger)
    log.addHandler(lost)
    log.propagate = False
    logging.disable(logging.ERROR)
    try:
        last = random.randrange(3)
        for number in range(last + 1):
            _run_life(Random(f"{seed} {number}"), ledger, settings, is_last=number == last)
        ledger.check()
    finally:
        logging.disable(logging.NOTSET)
        log.propagate = True
        log.removeHandler(lost)
    return ledger


def _run_life(random: Random, ledger: Ledger, settings: Any, *, is_last: bool) -> None:
    odds = {
        "store_fails": random.choice((0.0, 0.0, 0.01, 0.05, 0.2)),
        "stage_fails": random.choice((0.0, 0.0, 0.05, 0.9)),
        "is_slow": random.choice((0.0, 0.1, 0.5)),
        "until_kill": -1 if is_last else random.choice((-1, random.randrange(1, 400))),
    }

    async def live() -> None:
        life = Life(random, ledger, settings, **odds)
        await life.live(is_stopped=not is_last and random.random() < 0.5)

    loop = SeededLoop(random)
    try:
        loop.run_until_complete(live())
    finally:
        loop.close()


class Lost(logging.Handler):
    """Hears which submissions are told to be lost."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(logging.CRITICAL)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        if "is lost" in record.msg:
            assert isinstance(record.args, tuple)
            self._ledger.excused.add(str(record.args[0]))
