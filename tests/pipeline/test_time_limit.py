"""A stage whose time is limited from its first wait does what it does if it waits at once."""

import asyncio
import gc
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from aggregator.errors import StageFault
from aggregator.event import Event
from aggregator.outcome import Filtered
from aggregator.pipeline.runner import NamedStage, StageRunner
from aggregator.stage import IntakeStage

SHORT = 0.05  # seconds


class WaitsFirst(IntakeStage):
    """The same stage, whose time is limited before it is asked."""

    def __init__(self, stage: IntakeStage) -> None:
        self._stage = stage

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        await asyncio.sleep(0)
        return await self._stage.process(events)


def _as_it_is(stage: IntakeStage) -> IntakeStage:
    return stage


class Passes(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        return events


class Filters(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        events[0].settle(Filtered("the first one"))
        return events[1:]


class Rests(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        for _ in range(3):
            await asyncio.sleep(0)
        events[0].settle(Filtered("the first one"))
        return events[1:]


class Catches(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0)
            return events
        return []


class IsNoCoroutine(IntakeStage):
    def process(self, events: Sequence[Event]) -> Any:
        return asyncio.ensure_future(Passes().process(events))


class Waits(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        if len(events) > 1:
            events[1].wait(events[0])
            return [events[0], *events[2:]]
        return events


class Hangs(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        await asyncio.Event().wait()
        return events


class Raises(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        raise RuntimeError("at once")


class RaisesLater(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        await asyncio.sleep(0)
        raise RuntimeError("later")


class Empties(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        events.clear()  # type: ignore[attr-defined]
        return events


class Copies(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        return [Event(event.index, "0", 0) for event in events]


class ForgetsToReturn(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Any:
        pass


class KeepsAndReturns(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        events[0].settle(Filtered("and returned"))
        return events


class Cancels(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        raise asyncio.CancelledError


class StopsIteration(IntakeStage):
    def process(self, events: Sequence[Event]) -> Any:
        raise StopIteration(list(events))


class IsNotAwaitable(IntakeStage):
    def process(self, events: Sequence[Event]) -> Any:
        return None


class RaisesWhatIsFalse(IntakeStage):
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        raise Empty("why")


class Empty(Exception):
    def __len__(self) -> int:
        return 0


STAGES = [
    *(StopsIteration, RaisesWhatIsFalse),
    *(Passes, Filters, Rests, Catches, IsNoCoroutine, Waits, Raises, RaisesLater),
    *(Empties, Copies, ForgetsToReturn, KeepsAndReturns, Cancels),
]


async def outcome(line: Awaitable[list[Event]]) -> object:
    try:
        return [event.index for event in await line]
    except StageFault as fault:
        return str(fault)


@pytest.mark.parametrize("second", STAGES)
@pytest.mark.parametrize("first", STAGES)
async def test_time_is_limited_from_the_first_wait(
    first: type[IntakeStage], second: type[IntakeStage]
) -> None:
    await _check_both_ways(first, second, 60)


@pytest.mark.parametrize("other", [*STAGES, Hangs])
async def test_time_is_up_after_the_first_wait(other: type[IntakeStage]) -> None:
    await _check_both_ways(Hangs, other, SHORT)
    await _check_both_ways(other, Hangs, SHORT)


async def _check_both_ways(
    first: type[IntakeStage], second: type[IntakeStage], timeout: float
) -> None:
    ways = []
    for kind in (_as_it_is, WaitsFirst):
        events = [Event(index, "0", 0) for index in range(3)]
        stages = [NamedStage("first", kind(first())), NamedStage("second", kind(second()))]
        line = StageRunner(stages, timeout, print)
        going = await outcome(line.run(events))
        ways.append((going, [event.verdict for event in events]))
    assert ways[0] == ways[1]


async def test_no_timer_is_set_for_a_stage_that_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = StageRunner(
        [NamedStage("passes", Passes()), NamedStage("filters", Filters())], SHORT, print
    )
    events = [Event(index, "0", 0) for index in range(3)]
    monkeypatch.setattr(asyncio.get_running_loop(), "call_at", None)
    assert await line.run(events) == events[1:]


async def test_process_that_is_no_async_def_is_told_as_such() -> None:
    line = StageRunner([NamedStage("plain", IsNotAwaitable())], SHORT, print)
    with pytest.raises(StageFault, match="plain: process should be an `async def`"):
        await line.run([Event(0, "0", 0)])


async def test_nothing_goes_in_and_nothing_comes_out() -> None:
    line = StageRunner([NamedStage("raises", Raises())], SHORT, print)
    assert await line.run([]) == []


async def test_stage_is_cancelled_with_who_waits_for_it() -> None:
    line = StageRunner([NamedStage("hangs", Hangs())], 60, print)
    task = asyncio.create_task(line.run([Event(0, "0", 0)]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("stage", [Raises, RaisesLater, RaisesWhatIsFalse, Hangs, Cancels])
async def test_events_of_a_failed_stage_are_freed_without_the_collector(
    stage: type[IntakeStage],
) -> None:
    line = StageRunner([NamedStage("stage", stage())], SHORT, print)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await outcome(line.run([Event(0, "0", 0, topic="freed")]))
        await asyncio.sleep(0)
        left = [one for one in gc.get_objects() if type(one) is Event and one.topic == "freed"]
    finally:
        gc.enable()
    assert not left
