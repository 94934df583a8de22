"""The contract of a stage: one swappable step of the pipeline.

A stage gets events in order and returns those that go on, in order. Each one that it keeps back it
settles with exactly one outcome (`event.settle(Filtered("sampled out"))`), or puts back with
`event.wait(other)`. An event lost, doubled, reordered or invented, an event both settled and
returned, an exception, and a time-out are the stage's fault: the publisher is answered 500, and
the log names the stage.

Derive from `IntakeStage` or `BatchStage`. `aggregator try ./file.py` runs the stage from its file;
`aggregator new-stage` writes a package, which registers the class in the entry-point group
`aggregator.stages`. Its name there is its name in the setting `pipeline`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from marshmallow import Schema

from aggregator.event import Event
from aggregator.transaction import Transaction


class Stage(ABC):  # noqa: B024, what is abstract differs by the side of the bar
    """What both kinds of stage have in common.

    The constructor opens nothing: it is also called to check the settings before the start.
    """

    schema: ClassVar[type[Schema] | None] = None
    """Checks the table `[stages.NAME]`; what it loads becomes the constructor's arguments.

    Without one, the stage has no settings and its constructor no arguments.
    """

    accepts: ClassVar[Mapping[str, type[Schema]]] = {}
    """What it holds events to, by media type; for the description of the API."""

    async def close(self) -> None:  # noqa: B027, most stages hold nothing
        """Let go of what the stage holds; called once, after the last event."""


class IntakeStage(Stage):
    """A stage left of the bar: it runs in the request, many at a time, and sees no store.

    Behind `validate` no event is malformed; before it some may be, and have no payload to read.
    """

    @abstractmethod
    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return those of the events of one submission that go on.

        The others are settled as `Invalid` or `Filtered`: nothing can be stored yet.
        """


class BatchStage(Stage):
    """A stage right of the bar: it runs in the worker, one call at a time, in the transaction.

    Whatever it keeps outside the store (memory, counters, files, sockets) it changes only in
    `tx.after_commit`: a batch may be rolled back and come again in smaller parts. Behind `dedup`
    it is given new events only, and before `persist` what it filters stays new.
    """

    claims_keys: ClassVar[bool] = False
    """Whether what it hands on holds its key: it has claimed it, and settled what came again."""

    stores_events: ClassVar[bool] = False
    """Whether it stores every event that comes to it. It hands none on, so no stage follows it."""

    @abstractmethod
    async def process(self, events: Sequence[Event], tx: Transaction) -> Sequence[Event]:
        """Return those of the events of one batch that go on; they are of many submissions."""
