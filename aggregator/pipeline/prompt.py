"""Runs stages that answer at once without setting a timer for each call."""

from collections.abc import Coroutine, Generator, Sequence
from functools import partial
from types import CoroutineType, coroutine
from typing import Any, NamedTuple

from aggregator.event import Event
from aggregator.pipeline.runner import NamedStage, StageRunner, go_on
from aggregator.stage import IntakeStage
from aggregator.transaction import UnitOfWork

_NONE = object()


class PromptLine(StageRunner):
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
            begun = _begin(named.stage, going)
            if not _go_all_on(going, begun.answer):
                stages = [
                    NamedStage(named.name, _Rest(named.stage, begun)),
                    *self.stages[place + 1 :],
                ]
                del begun  # what it has raised refers to this very frame, and all that is in it
                return await StageRunner(stages, self.timeout, self.stuck).run(going, work)
        return going


class _Begun(NamedTuple):
    """How far a call has come: to its answer, to its end, or to something that it waits for."""

    answer: Any = _NONE
    error: BaseException | None = None
    rest: Any = _NONE


def _begin(stage: IntakeStage, events: Sequence[Event]) -> _Begun:
    try:
        call: Any = stage.process(list(events))
    except BaseException as error:  # noqa: BLE001, it is raised where a stage is blamed for it
        return _Begun(error=error)
    if type(call) is not CoroutineType:
        return _Begun(rest=call)
    try:
        return _Begun(rest=_rest(call, call.send(None)))
    except StopIteration as end:
        return _Begun(end.value)
    except BaseException as error:  # noqa: BLE001, as above
        return _Begun(error=error)


def _go_all_on(events: Sequence[Event], answer: Any) -> bool:
    """Whether a stage has answered, and has kept nothing back."""
    return type(answer) is list and len(answer) == len(events) and go_on(events, answer)


class _Rest(IntakeStage):
    """The rest of a stage whose call was begun: the first `process` goes on with it."""

    def __init__(self, stage: IntakeStage, begun: _Begun) -> None:
        self._stage = stage
        self._begun: _Begun | None = begun

    async def process(self, events: Sequence[Event]) -> Any:
        """What becomes of that call, and then of each further one."""
        begun, self._begun = self._begun, None
        if begun is None:
            return await self._stage.process(events)
        try:
            if begun.error is not None:
                raise begun.error
            return begun.answer if begun.rest is _NONE else await begun.rest
        finally:
            del begun  # what was raised refers to this frame


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
        finally:
            del step  # what was thrown refers to this frame
