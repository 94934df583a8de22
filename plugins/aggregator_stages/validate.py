"""Holds each event to the contract of an event, and says everything that is wrong with it."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from marshmallow import Schema

from aggregator.event import Event
from aggregator.outcome import Fault, Invalid
from aggregator.stage import IntakeStage
from aggregator_stages.accept import Accept
from aggregator_stages.contract import Contract
from aggregator_stages.schemas import CloudEventSchema, EventSchema

_FEW = 100  # more declined events, or larger ones, are looked at in a thread
_LARGE = 65_536  # bytes
_EXPLAINED = 1000  # further ones are told their first fault only


class Validate(IntakeStage):
    """Settles as invalid what the schema of its kind does not accept."""

    accepts: ClassVar[dict[str, type[Schema]]] = {
        "application/json": EventSchema,
        "application/cloudevents+json": CloudEventSchema,
    }

    def __init__(self) -> None:
        self._accept = Accept(EventSchema())
        self._plain = Contract(EventSchema())
        self._cloud = Contract(CloudEventSchema())

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that keep the contract."""
        sees = self._accept.sees
        doubtful = [event for event in events if not sees(event)]
        if not doubtful:
            return events
        if sum(len(event.attributes) for event in doubtful) > _LARGE:
            declined = await asyncio.to_thread(self._declined, doubtful)
        else:
            declined = self._declined(doubtful)
        if not declined:
            return events
        if len(declined) > _FEW or sum(len(event.raw) for event, _ in declined) > _LARGE:
            await asyncio.to_thread(self._refuse, declined)
        else:
            self._refuse(declined)
        return [event for event in events if event.outcome is None]

    def _declined(self, events: Sequence[Event]) -> list[tuple[Event, Fault]]:
        return [(event, why) for event in events if (why := self._first_fault(event))]

    def _contract(self, event: Event) -> Contract:
        return self._cloud if event.attributes else self._plain

    def _first_fault(self, event: Event) -> Fault | None:
        if event.malformed:
            return Fault("", event.malformed)
        fault = self._contract(event).first_fault(event)
        if not fault and not event.attributes:
            self._accept.learn(event)
        return fault

    def _refuse(self, declined: Sequence[tuple[Event, Fault]]) -> None:
        for count, (event, first) in enumerate(declined):
            faults = self._contract(event).faults(event) if count < _EXPLAINED else []
            event.settle(Invalid(tuple(faults or [first])))
