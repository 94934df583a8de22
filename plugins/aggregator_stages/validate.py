"""Holds each event to the contract of an event, and says everything that is wrong with it."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from aggregator import pointer, timestamp
from aggregator.event import Event
from aggregator.outcome import Fault, Invalid
from aggregator.stage import IntakeStage

_LONGEST_NAME = 255
_LONGEST_SOURCE = 1024  # a CloudEvent's source is a URI
_LONGEST_TIMESTAMP = 64
_FEW = 100  # more declined events, or larger ones, are looked at in a thread
_LARGE = 65_536  # bytes
_EXPLAINED = 1000  # further ones are told their first fault only
_MOST = 10  # faults of one event
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
        texts = {n: f for n, f in self._schema.fields.items() if isinstance(f, fields.String)}
        self._checks = [(name, _validators(field)) for name, field in texts.items()]

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that keep the contract."""
        declined = [(event, why) for event in events if (why := self._first_fault(event))]
        if not declined:
            return events
        if len(declined) > _FEW or sum(len(event.raw) for event, _ in declined) > _LARGE:
            await asyncio.to_thread(self._refuse, declined)
        else:
            self._refuse(declined)
        return [event for event in events if event.outcome is None]

    def _first_fault(self, event: Event) -> Fault | None:
        """The accept check: None for nearly every event."""
        if event.malformed:
            return Fault("", event.malformed)
        for name, checks in self._checks:
            value = getattr(event, name)
            try:
                for check in checks:
                    check(value)
            except ValidationError as error:
                return Fault(pointer.to(name), str(error.messages[0]))
        return None

    def _refuse(self, declined: Sequence[tuple[Event, Fault]]) -> None:
        for count, (event, first) in enumerate(declined):
            faults = self._all_faults(event) if count < _EXPLAINED else []
            event.settle(Invalid(tuple(faults or [first])))

    def _all_faults(self, event: Event) -> list[Fault]:
        members = msgspec.json.decode(event.raw) if event.malformed else _members(event)
        if isinstance(members, dict):
            known = {name: members[name] for name in self._schema.fields if name in members}
            unknown = islice((name for name in members if name not in known), _MOST)
            members = known | dict.fromkeys(unknown)
        return list(islice(_flatten((), self._schema.validate(members)), _MOST))


def _validators(field: fields.Field[Any]) -> list[validate.Validator]:
    return [check for check in field.validators if isinstance(check, validate.Validator)]


def _members(event: Event) -> dict[str, object]:
    return {
        "topic": event.topic,
        "event_id": event.event_id,
        "timestamp": event.timestamp,
        "source": event.source,
        "payload": {},
    }


def _flatten(path: tuple[str, ...], errors: object) -> Iterator[Fault]:
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            yield from _flatten(path if name == "_schema" else (*path, str(name)), inner)
    elif isinstance(errors, list):
        for inner in errors:
            yield from _flatten(path, inner)
    else:
        yield Fault(pointer.to(*path), str(errors))
