"""Stages that do what a stage may not do, each to the events that say so in their payload."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import sleep
from typing import Any, ClassVar

from msgspec.structs import force_setattr, replace

from aggregator.errors import StoreError
from aggregator.event import Event
from aggregator.outcome import Duplicate, Fault, Filtered, Invalid, Outcome, Stored
from aggregator.stage import BatchStage, IntakeStage
from aggregator.store import KeyOwner
from aggregator.testing import make_event
from aggregator.transaction import Transaction


def is_bad(event: Event) -> bool:
    return b'"bad"' in event.payload


class Raises(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            raise RuntimeError("it is bad")
        if any(b'"worse"' in event.payload for event in events):
            raise RuntimeError("it is worse")
        return events


class RaisesOnIntake(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            raise RuntimeError("it is bad")
        return events


class Changes(BatchStage):
    """Finds a way around `frozen`."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in filter(is_bad, events):
            force_setattr(event, "payload", b'{"is":"good"}')
        return events


class ChangesAndRaises(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in filter(is_bad, events):
            force_setattr(event, "payload", b'{"is":"good"}')
            raise RuntimeError("it has changed one")
        return events


class ChangesAndFilters(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in filter(is_bad, events):
            force_setattr(event, "source", "elsewhere")
            event.settle(Filtered("it is bad"))
        return [event for event in events if event.outcome is None]


class ChangesTheKnownTime(BatchStage):
    """What `timestamp_us` answers, where it was parsed already."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in filter(is_bad, events):
            force_setattr(event, "known_timestamp_us", 1)
        return events


class CancelledAsItCloses(BatchStage):
    """Awaits a task of its own as it closes, which it has cancelled."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return events

    async def close(self) -> None:
        task = asyncio.create_task(asyncio.sleep(3600))
        task.cancel()
        await task


class TellsThatItIsClosed(BatchStage):
    closed: ClassVar[int] = 0

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return events

    async def close(self) -> None:
        type(self).closed += 1


class ClosesNever(BatchStage):
    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return events

    async def close(self) -> None:
        self.begun.set()
        await asyncio.Event().wait()


class ChangesOnIntake(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        for event in filter(is_bad, events):
            force_setattr(event, "payload", b'{"is":"good"}')
        return events


class EffectNobodyAwaits(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        async def effect() -> None:
            pass

        if any(is_bad(event) for event in events):
            tx.after_commit(effect)  # type: ignore[arg-type]
        return events


class EffectThatIsNone(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            tx.after_commit(None)  # type: ignore[arg-type]
        return events


class Copies(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return [replace(event, source="x") if is_bad(event) else event for event in events]


class IsNotAsync(BatchStage):
    def process(self, events: Sequence[Event], tx: Transaction) -> Any:
        async def process() -> Sequence[Event]:
            return events

        return events if any(map(is_bad, events)) else process()


class PointsNowhere(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in filter(is_bad, events):
            event.settle(Invalid((Fault("payload", "It is bad."),)))
        return [event for event in events if event.outcome is None]


class RaisesItsInput(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        raise ValueError(json.loads(events[0].payload)["is"])


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it is speechless")


class RaisesWhatSaysNothing(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            raise Speechless
        return events


class VerdictOfItsOwn(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in filter(is_bad, events):
            force_setattr(event, "verdict", "stored")
        return [event for event in events if event.outcome is None]


class VerdictThatIsAClass(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in filter(is_bad, events):
            force_setattr(event, "verdict", Stored)
        return [event for event in events if event.outcome is None]


class Effects(BatchStage):
    """Does after the commit what it was made with."""

    effect: ClassVar[Callable[[], Any]]

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for _ in events:
            tx.after_commit(type(self).effect)
        return events


class Hangs(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            await asyncio.Event().wait()
        return events


class Loses(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return [event for event in events if not is_bad(event)]


class Doubles(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return [event for event in events for _ in range(1 + is_bad(event))]


class Invents(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return [*events, *(make_event("invented") for event in events if is_bad(event))]


class Reorders(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        return sorted(events, key=is_bad, reverse=True)


class KeepsAndReturns(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in events:
            if is_bad(event):
                event.settle(Filtered("bad"))
        return events


class SettlesTwice(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in events:
            if is_bad(event):
                event.settle(Filtered("bad"))
                event.settle(Filtered("very bad"))
        return [event for event in events if not is_bad(event)]


class WaitsForEver(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in events:
            if is_bad(event):
                event.wait(events[0])
        return [event for event in events if not is_bad(event)]


class Swallows(BatchStage):
    """Goes on after a call of its transaction has failed."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            try:
                await tx.append([events[0], events[0]])
            except Exception:
                return events
        return events


class ThinksLong(BatchStage):
    """No fault: works for longer than its time, beside the event loop."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        await tx.aside(sleep, 0.4)
        return events


class Filters(BatchStage):
    """No fault: keeps bad events out."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in events:
            if is_bad(event):
                event.settle(Filtered("it is bad"))
        return [event for event in events if not is_bad(event)]


class Remembers(BatchStage):
    """No fault: remembers after the commit."""

    memory: ClassVar[list[str]] = []

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in events:
            tx.after_commit(lambda event_id=event.event_id: self.memory.append(event_id))
        return events


class CatchesStoreErrors(BatchStage):
    """Goes on after the store has failed under it."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        async def fail(_: Sequence[bytes]) -> list[KeyOwner | None]:
            raise StoreError("the stage saw it fail")

        tx._work.tx.claim = fail  # type: ignore[method-assign]
        with suppress(StoreError):
            await tx.claim([])
        return events


class KeepsItsTransaction(BatchStage):
    """Uses the transaction of an earlier batch."""

    def __init__(self) -> None:
        self.kept: Transaction | None = None

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if self.kept:
            await self.kept.claim([event.key for event in events])
        self.kept = self.kept or tx
        return events


class ForgetsToReturn(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if not any(is_bad(event) for event in events):
            return events
        return None  # type: ignore[return-value]


class Quarantined(Outcome, frozen=True):
    status = "quarantined"


class SettlesBad(BatchStage):
    """Settles bad events with something that is no outcome of ours."""

    outcome: ClassVar[object]

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in events:
            if is_bad(event):
                event.settle(self.outcome)  # type: ignore[arg-type]
        return [event for event in events if not is_bad(event)]


class OwnOutcome(SettlesBad):
    outcome = Quarantined()


class SettlesAString(SettlesBad):
    outcome = "filtered"


class FiltersWithoutWords(SettlesBad):
    outcome = Filtered(None)  # type: ignore[arg-type]


class ForgesADuplicate(SettlesBad):
    outcome = Duplicate(77, 0)


class ForgesAStored(SettlesBad):
    outcome = Stored(77)


class StoresOnIntake(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        for event in events:
            if is_bad(event):
                event.settle(Stored(77))
        return [event for event in events if not is_bad(event)]


class StoresLateOnIntake(IntakeStage):
    """Settles the first event once it has passed already, when the last one comes again."""

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        last = events[-1]
        if last.awaited:
            last.awaited.settle(Stored(77))
            return events
        last.wait(events[0])
        return events[:-1]


class AppendsAGhost(BatchStage):
    """Stores an event that nobody sent."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            await tx.append([make_event("ghost")])
        return events


class Commits(BatchStage):
    """Stores its events by itself, and at once."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            await tx.append(events)
            await tx.commit()  # type: ignore[attr-defined]
        return events


class Sampled(Filtered, frozen=True):
    status = "sampled"


class OutcomeOfAKind(SettlesBad):
    outcome = Sampled("a class of its own")


class FaultWithoutWords(SettlesBad):
    outcome = Invalid((Fault("", object()),))  # type: ignore[arg-type]


class FiltersInHalfLetters(SettlesBad):
    outcome = Filtered("\ud800")


class Removes(BatchStage):
    """Changes the list that it was given."""

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        assert isinstance(events, list)
        for event in list(events):
            if is_bad(event):
                events.remove(event)
        return events


class StoresTwoAsOne(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if not any(is_bad(event) for event in events):
            return events
        seqs = await tx.append(events[-1:])
        for event in events:
            event.settle(Stored(seqs[0]))
        return []


class Generates(IntakeStage):
    """No fault: what it returns is no list."""

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        return (event for event in events)  # type: ignore[return-value]


class BlamesForNothing(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        for event in events:
            event.settle(Invalid(()))
        return []


class QuotesItsInput(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        raise ValueError("no such file: /data/\udcff" + "x" * 100_000)


class ClaimsNone(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            await tx.claim(None)  # type: ignore[arg-type]
        return events


class AppendsNone(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            await tx.append([None])  # type: ignore[list-item]
        return events


class ReadsAGhost(BatchStage):
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        if any(is_bad(event) for event in events):
            await tx.contents([2**70])
        return events


class AppendsWhatNoStoreTakes(BatchStage):
    """Spoils the member that an event's source names."""

    spoiled: ClassVar[dict[str, object]] = {
        "key": b"short",
        "digest": b"short",
        "topic": 5,
        "source": "\ud800",
        "received_at": 2**63,
    }

    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        for event in events:
            if event.source in self.spoiled:
                await tx.append([replace(event, **{event.source: self.spoiled[event.source]})])
        return events
