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


class PromptLine(Line):
    """The stages left of the bar, most of which wait for nothing.

    A stage is called before its time is limited: nothing could cut it short before it waits. If it
    has answered by then and lets every event go on, that is all there is to it; with whatever else
    it does the line goes on as lines do.
    """

    async def _pass(
        self, named: Named, events: Sequence[Event], work: UnitOfWork | None
    ) -> Sequence[Event]:
        assert isinstance(named.stage, IntakeStage)
        begun = _Begun(named.stage, events)
        if type(begun.answer) is list and _all_go_on(events, begun.answer):
            return begun.answer
        return await super()._pass(Named(named.name, begun), events, work)


def _all_go_on(events: Sequence[Event], answer: Sequence[Event]) -> bool:
    return (
        len(answer) == len(events)
        and all(map(is_, answer, events))
        and not [event for event in events if event.verdict is not _GOING]
    )


class _Begun(IntakeStage):
    """A stage that was called already: `process` goes on with that call."""

    def __init__(self, stage: IntakeStage, events: Sequence[Event]) -> None:
        self.answer: Any = None
        self._rest: Any = None
        self._error: BaseException | None = None
        try:
            call: Any = stage.process(list(events))
            is_plain = type(call) is CoroutineType
            self._rest = _rest(call, call.send(None)) if is_plain else call
        except StopIteration as end:
            self.answer = end.value
        except BaseException as error:  # noqa: BLE001, it is raised where a stage is blamed for it
            self._error = error

    async def process(self, events: Sequence[Event]) -> Any:  # noqa: ARG002, it has them
        """What becomes of the call."""
        if self._error:
            raise self._error
        return self.answer if self._rest is None else await self._rest


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
