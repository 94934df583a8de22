"""Holds each event to the contract of an event, and says everything that is wrong with it."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from aggregator import timestamp
from aggregator.event import Event
from aggregator.outcome import Fault, Invalid
from aggregator.stage import IntakeStage
from aggregator.strict_json import escape

_LONGEST_NAME = 255
_LONGEST_SOURCE = 1024  # a CloudEvent's source is a URI
_LONGEST_TIMESTAMP = 64
_FEW = 100  # more declined events are looked at in a thread: each takes a tenth of a millisecond
_ONE_LINE = re.compile("^[^\\x00-\\x1f\\x7f-\\x9f\u2028\u2029]*$")


class OneLine(validate.Regexp):
    """Characters that print on one line: no control character, no separator of lines."""

    def __init__(self) -> None:
        super().__init__(_ONE_LINE, error="May not hold a line break or a control character.")

    def __call__(self, value: str) -> str:  # type: ignore[override]
        """Match the whole value: `$` alone would let a last line break through."""
        if not _ONE_LINE.fullmatch(value):
            raise ValidationError(str(self.error))
        return value


class Timestamp(validate.Validator):
    """A date and time with an offset."""

    def __call__(self, value: str) -> str:
        """Return the value, or raise ValidationError."""
        try:
            timestamp.parse(value)
        except ValueError as error:
            raise ValidationError(f"Bad time: {error}.") from error
        return value


def _name(longest: int) -> fields.String:
    return fields.String(required=True, validate=[validate.Length(1, longest), OneLine()])


class EventSchema(Schema):
    """The contract of an event, as publishers send it."""

    class Meta:
        """Unknown members are refused: a misspelled one would be lost in silence."""

        unknown = RAISE

    topic = _name(_LONGEST_NAME)
    event_id = _name(_LONGEST_NAME)
    timestamp = fields.String(
        required=True, validate=[validate.Length(max=_LONGEST_TIMESTAMP), Timestamp()]
    )
    source = _name(_LONGEST_SOURCE)
    payload = fields.Dict(required=True)


class Validate(IntakeStage):
    """Settles as invalid what the schema does not accept.

    A well-formed event has the right types already, so only the schema's own validators are run
    on it; marshmallow itself looks at what they decline, and lists every fault.
    """

    def __init__(self) -> None:
        self._schema = EventSchema()
        declared = self._schema.fields
        self._topic = _check(declared["topic"])
        self._event_id = _check(declared["event_id"])
        self._timestamp = _check(declared["timestamp"])
        self._source = _check(declared["source"])

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that keep the contract."""
        declined = [event for event in events if not self._accepts(event)]
        if len(declined) > _FEW:
            await asyncio.to_thread(self._refuse, declined)
        elif declined:
            self._refuse(declined)
        return [event for event in events if event.outcome is None]

    def _accepts(self, event: Event) -> bool:
        try:
            for check in self._topic:
                check(event.topic)
            for check in self._event_id:
                check(event.event_id)
            for check in self._timestamp:
                check(event.timestamp)
            for check in self._source:
                check(event.source)
        except ValidationError:
            return False
        return not event.malformed

    def _refuse(self, declined: Sequence[Event]) -> None:
        for event in declined:
            event.settle(Invalid(tuple(self._faults(event))))

    def _faults(self, event: Event) -> list[Fault]:
        members = msgspec.json.decode(event.received) if event.malformed else _members(event)
        errors = self._schema.validate(members)
        return list(_flatten("", errors)) or [Fault("", event.malformed)]


def _check(field: fields.Field[Any]) -> list[validate.Validator]:
    return [check for check in field.validators if isinstance(check, validate.Validator)]


def _members(event: Event) -> dict[str, object]:
    return {
        "topic": event.topic,
        "event_id": event.event_id,
        "timestamp": event.timestamp,
        "source": event.source,
        "payload": {},
    }


def _flatten(pointer: str, errors: object) -> Iterator[Fault]:
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            place = pointer if name == "_schema" else f"{pointer}/{escape(str(name))}"
            yield from _flatten(place, inner)
    elif isinstance(errors, list):
        for inner in errors:
            yield from _flatten(pointer, inner)
    else:
        yield Fault(pointer, str(errors))
