"""The order of the stages, and the care with which they are run.

The order reads like the picture: in `validate | dedup persist` the bar is the queue. What a stage
hands back is checked against the contract in `stage.py`; a breach is a StageFault that names it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import is_, itemgetter
from types import coroutine
from typing import Any, cast

from msgspec.structs import astuple, force_setattr

from aggregator.core.fault_log import Seldom, in_a_line, place_of, text_of, traceback_of
from aggregator.core.metrics import Metrics
from aggregator.errors import AggregatorError, SettingError, StageFault, StoreError
from aggregator.event import Event, Pending
from aggregator.stage import BatchStage, IntakeStage, Stage
from aggregator.transaction import Postponed, Transaction, UnitOfWork

_GOING, _WAITING = Pending.GOING, Pending.WAITING
_MOST_ROUNDS = 1000
_LONGEST = 500  # bytes of an error's words
_NO_LIMIT = asyncio.Timeout(None)
_FROZEN = Event.__struct_fields__.index("verdict")  # members that come before those that change
_frozen = itemgetter(slice(_FROZEN))

Members = list[tuple[Any, ...]]
"""Of each event the members that nobody changes."""
Call = Coroutine[Any, Any, Sequence[Event]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PipelineSpec:
    """The names of the stages on each side of the bar."""

    intake: tuple[str, ...]
    batch: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "PipelineSpec":
        """Read `validate | dedup persist`. Raises SettingError."""
        sides = text.split("|")
        if len(sides) != 2:
            raise SettingError(
                f"pipeline: {text!r} needs exactly one bar: it stands for the queue, "
                "as in 'validate | dedup persist'"
            )
        if not sides[1].split():
            raise SettingError(f"pipeline: in {text!r} no stage stands right of the bar to store")
        order = cls(*(tuple(side.split()) for side in sides))
        names = order.intake + order.batch
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise SettingError(f"pipeline: {', '.join(doubled)} stands in {text!r} twice")
        return order

    def __str__(self) -> str:
        return f"{' '.join(self.intake)} | {' '.join(self.batch)}".strip()


@dataclass(frozen=True)
class NamedStage:
    """A stage, and the name that the pipeline knows it by."""

    name: str
    stage: Stage
    is_watched: bool = True
    """Whether it is looked at if it has changed an event. That costs a twentieth of the time that a
    batch takes (measured), so those that are installed with the service are held to it by tests."""


def order_faults(batch: Sequence[NamedStage]) -> list[str]:
    """Why these stages right of the bar cannot store events each once; nothing where they can."""
    storing = next((at for at, named in enumerate(batch) if _has(named, "stores_events")), None)
    if storing is None:
        return [
            "pipeline: no stage right of the bar stores events, so every publisher would be "
            "answered 500; persist does, and a stage of your own says so with stores_events = True"
        ]
    name, found = batch[storing].name, []
    if not any(_has(named, "claims_keys") for named in batch[: storing + 1]):
        found.append(
            f"pipeline: no stage before {name} claims the keys of events, so every duplicate would "
            "be answered 500; dedup does, and a stage of your own says so with claims_keys = True"
        )
    if behind := [named.name for named in batch[storing + 1 :]]:
        found.append(
            f"pipeline: {', '.join(behind)} would never run: {name} stores events and hands none on"
        )
    return found


def _has(named: NamedStage, ability: str) -> bool:
    return bool(getattr(named.stage, ability, False))


class StageRunner:
    """The stages of one side of the bar, run in order over lists of events.

    A stage that has not answered after `timeout` seconds is cancelled, which is its fault; one
    that does not even end when cancelled is reported to `stuck`, for nothing can go on then.
    """

    def __init__(
        self,
        stages: Sequence[NamedStage],
        timeout: float,
        stuck: Callable[[str], None],
        metrics: Metrics | None = None,
    ) -> None:
        self.stages = stages
        self.timeout = timeout
        self.stuck = stuck
        self.metrics = metrics or Metrics()
        # From 0 on: of a series that begins with 1, Prometheus sees no increase.
        names = [named.name for named in stages]
        self.metrics.stage_failures.update(dict.fromkeys((*names, self.names) if names else (), 0))
        self._faults = Seldom()
        self._is_any_watched = any(named.is_watched for named in stages)
        self._is_watching = False

    async def run(self, events: Sequence[Event], work: UnitOfWork | None = None) -> list[Event]:
        """Run the events through all stages; return those that no stage kept back.

        Those that a stage made wait come to it again once the others are through. Raises
        StoreError, StageFault, which is logged, or Postponed.
        """
        before = _members(events) if self._is_any_watched else None
        try:
            passed = await self._run(events, work)
            if before is not None:
                self._check_unchanged(self.names, events, before)
        except BaseException as error:
            if before is not None:
                _restored(events, before)  # they may come again
            if isinstance(error, StageFault):
                self.report(error)
            raise
        return passed

    def report(self, fault: StageFault) -> None:
        """Log the fault and its cause's traceback; of those made in one place, one a minute."""
        stage = str(fault).partition(":")[0]
        self.metrics.stage_failures[stage] += 1
        if (more := self._faults.told(f"{stage} {place_of(fault.__cause__)}")) is not None:
            log.error("the stage %s%s%s", str(fault), more, traceback_of(fault.__cause__))

    def _check_unchanged(self, names: str, events: Sequence[Event], before: Members) -> None:
        """Raise StageFault if one of the stages has changed an event, and undo it.

        Looked at once for all stages, since it takes time: once one of them was caught, each is
        watched by itself, so that the batch's replay names it.
        """
        if changed := _restored(events, before):
            self._is_watching = True
            raise StageFault(f"{names}: {changed}")

    async def _run(self, events: Sequence[Event], work: UnitOfWork | None) -> list[Event]:
        passed: list[Event] = []
        parts: deque[tuple[int, Sequence[Event]]] = deque([(0, events)])
        rounds = 0
        while parts:
            rounds += 1
            if rounds > _MOST_ROUNDS:
                raise StageFault(f"{self.names}: events still wait after {_MOST_ROUNDS} rounds")
            first, going = parts.popleft()
            for place, named in enumerate(self.stages[first:], first):
                given = going
                before = _members(given) if self._is_watching else None
                going = await self._pass(named, given, work) if given else given
                if before is not None:
                    self._check_unchanged(named.name, given, before)
                if len(going) == len(given):
                    continue  # nobody waits
                if waiting := [event for event in given if event.verdict is _WAITING]:
                    if place == first and len(waiting) == len(given):
                        raise StageFault(f"{named.name}: all events wait for each other")
                    parts.append((place, waiting))
                    for event in waiting:
                        event.resume()
            passed += going
        return passed

    @property
    def names(self) -> str:
        """The names of the stages, for messages."""
        return " ".join(named.name for named in self.stages)

    async def close(self) -> None:
        """Close every stage, the last one first."""
        for named in reversed(self.stages):
            try:
                await named.stage.close()
            except (Exception, asyncio.CancelledError):  # of a task of its own that it awaits, say
                if _is_cancelled():
                    raise
                log.exception("%s: could not be closed", named.name)

    async def _pass(
        self, named: NamedStage, events: Sequence[Event], work: UnitOfWork | None
    ) -> Sequence[Event]:
        limit = _NO_LIMIT
        returned: Sequence[Event]
        begun = time.perf_counter()
        try:
            if work is None:
                # Most stages left of the bar never wait: nothing could interrupt them, and setting
                # timers costs more than running them. So start the call, and time it if it waits.
                call = _process(cast("IntakeStage", named.stage), events)
                try:
                    awaited = call.send(None)
                except StopIteration as end:
                    returned = end.value
                else:
                    limit = asyncio.timeout(self.timeout)
                    async with self._limited(named, limit):
                        returned = await _rest_of(call, awaited)
            else:
                limit = asyncio.timeout(self.timeout)
                async with self._limited(named, limit):
                    returned = await _process_batch(named, events, work, limit)
            _check(events, returned)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or _is_cancelled():
                raise
            raise _raised(named.name, error, work, limit) from error
        finally:
            self.metrics.stage_seconds[named.name].observe(time.perf_counter() - begun)
        if work and work.failure:
            raise _raised(named.name, work.failure, work, limit)
        return returned

    @asynccontextmanager
    async def _limited(self, named: NamedStage, limit: asyncio.Timeout) -> AsyncIterator[None]:
        async with limit:
            with self._guarded(named.name, limit):
                yield

    @contextmanager
    def _guarded(self, name: str, limit: asyncio.Timeout) -> Iterator[None]:
        """Report a stage that goes on though its time was up long ago."""
        clock = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if limit.expired():
                self.stuck(name)
            timer = clock.call_later(self.timeout, look)

        timer = clock.call_later(2 * self.timeout, look)
        try:
            yield
        finally:
            timer.cancel()


def _is_cancelled() -> bool:
    """Whether the pipeline's own task was cancelled, and not something inside a stage."""
    task = asyncio.current_task()
    return bool(task and task.cancelling())


def _raised(
    name: str, error: BaseException, work: UnitOfWork | None, limit: asyncio.Timeout
) -> AggregatorError | Postponed:
    """Whose fault it is: the store's if a call to it failed, whatever the stage made of that.

    Nobody's, where something was postponed.
    """
    if work and isinstance(work.failure, StoreError | Postponed):
        return work.failure
    if isinstance(error, TimeoutError) and limit.expired():
        return StageFault(f"{name}: no answer in time (stage_timeout)")
    if isinstance(error, StageFault):
        return StageFault(f"{name}: {in_a_line(text_of(error), _LONGEST)}")
    return StageFault(f"{name}: {type(error).__name__}: {in_a_line(text_of(error), _LONGEST)}")


async def _process(stage: IntakeStage, events: Sequence[Event]) -> Sequence[Event]:
    return _listed(await _begun(stage.process(list(events))))


async def _process_batch(
    named: NamedStage, events: Sequence[Event], work: UnitOfWork, limit: asyncio.Timeout
) -> Sequence[Event]:
    stage = cast("BatchStage", named.stage)
    tx = Transaction(work, limit, named.name)
    try:
        return _listed(await _begun(stage.process(list(events), tx)))
    finally:
        await tx.end()


def _begun(call: Call) -> Call:
    """The call of `process`; as Python has it, one that is no coroutine fails in odd words."""
    if not hasattr(call, "__await__"):
        raise StageFault("process should be an `async def`")
    return call


def _listed(returned: Sequence[Event] | None) -> Sequence[Event]:
    if returned is None:
        raise StageFault("process returned None, and not the events that go on")
    return list(returned)


@coroutine
def _rest_of(call: Call, awaited: Any) -> Generator[Any, Any, Sequence[Event]]:
    """Await the rest of a call that was begun, and waits for something."""
    while True:
        try:
            sent = yield awaited
        except BaseException as error:  # noqa: BLE001, it is for the call
            step = partial(call.throw, error)
        else:
            step = partial(call.send, sent)
        try:
            awaited = step()
        except StopIteration as end:
            answer: Sequence[Event] = end.value
            return answer
        finally:
            del step  # what was thrown refers to this frame


def _check(given: Sequence[Event], returned: Sequence[Event]) -> None:
    """Raise StageFault unless each given event went on, in order, or was kept back."""
    going = [event for event in given if event.verdict is _GOING]
    if len(going) != len(returned) or not all(map(is_, going, returned)):
        raise StageFault(_breach(given, returned))


def _members(events: Sequence[Event]) -> Members:
    return list(map(_frozen, map(astuple, events)))


def _restored(events: Sequence[Event], before: Members) -> str:
    """Give events back what a stage has changed in them, and say what; empty if it is nothing.

    Python has ways around `frozen`. What a stage hands on would be stored under a digest that is
    not its own, and be read back as damaged.
    """
    if _members(events) == before:
        return ""
    changed = [
        (event, name, was)
        for event, members in zip(events, before, strict=True)
        for name, was in zip(Event.__struct_fields__, members, strict=False)
        if getattr(event, name) != was
    ]
    for event, name, was in changed:
        force_setattr(event, name, was)
    return f"changed the {changed[0][1]} of event {changed[0][0].index}" if changed else ""


def _breach(given: Sequence[Event], returned: Sequence[Event]) -> str:
    following = iter(returned)
    expected = next(following, None)
    for event in given:
        if event is expected:
            if event.verdict is not _GOING:
                return f"event {event.index} was kept back and returned as well"
            expected = next(following, None)
        elif event.verdict is _GOING:
            return _missing(event, returned)
    return "returned an event that it was not given, or gave it back twice"


def _missing(event: Event, returned: Sequence[Event]) -> str:
    if any(one is event for one in returned):
        return f"event {event.index} was returned in another order"
    place = (event.submission, event.index)
    for one in returned:
        if isinstance(one, Event) and (one.submission, one.index) == place:
            return f"event {event.index} was returned as a copy; events are not changed"
    return f"event {event.index} was lost: neither settled nor returned"
