"""Runs stages that answer at once without setting a timer for each call."""

from collections.abc import Coroutine, Generator, Sequence
from functools import partial
from operator import is_
from types import CoroutineType, coroutine
from typing import Any

from aggregator.event import Event, Pending
from aggregator.pipeline import Line, Named
from aggregator.stage import IntakeStage
from aggregator.transaction import UnitOfWork

_GOING = Pending.GOING
_NOTHING = object()


class PromptLine(Line):
    """The stages left of the bar, most of which wait for nothing.

    A stage is called before its time is limited: nothing could cut it short before it waits. If it
    has answered by then and lets every event go on, that is all there is to it; what else it does
    is gone through as in any line.
    """

    async def run(self, events: Sequence[Event], work: UnitOfWork | None = None) -> list[Event]:
        """Run the events through all stages; return those that go on. Raises StageFault."""
        going = list(events)
        for place, named in enumerate(self.stages if going else ()):
            assert isinstance(named.stage, IntakeStage)
            begun = _Begun(named.stage, going)
            if not begun.lets_go_on(going):
                stages = [Named(named.name, begun), *self.stages[place + 1 :]]
                return await Line(stages, self.timeout, self.stuck).run(going, work)
        return going


class _Begun(IntakeStage):
    """A stage that was called already: the first `process` goes on with that call."""

    def __init__(self, stage: IntakeStage, events: Sequence[Event]) -> None:
        self._stage = stage
        self._answer: Any = _NOTHING
        self._rest: Any = None
        self._error: BaseException | None = None
        try:
            call: Any = stage.process(list(events))
            is_plain = type(call) is CoroutineType
            self._rest = _rest(call, call.send(None)) if is_plain else call
        except StopIteration as end:
            self._answer = end.value
        except BaseException as error:  # noqa: BLE001, it is raised where a stage is blamed for it
            self._error = error

    def lets_go_on(self, events: Sequence[Event]) -> bool:
        """Whether it has answered, and has kept nothing back."""
        answer = self._answer
        return (
            type(answer) is list
            and len(answer) == len(events)
            and all(map(is_, answer, events))
            and not [event for event in events if event.verdict is not _GOING]
        )

    async def process(self, events: Sequence[Event]) -> Any:
        """What becomes of that call, and then of each further one."""
        if self._error:
            raise self._error
        answer, self._answer = self._answer, _NOTHING
        if answer is not _NOTHING:
            return answer
        rest, self._rest = self._rest, None
        return await (rest or self._stage.process(events))


@coroutine
def _rest(call: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """What is left of a call that waits for something."""
    while True:
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001, it is for the call
            step = partial(call.throw, error)
        else:
            step = partial(call.send, None)
        try:
            awaited = step()
        except StopIteration as end:
            return end.value
