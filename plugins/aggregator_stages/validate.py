"""Holds each event to the schema of an event, and says everything that is wrong with it."""

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, ClassVar, TypeVar

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate
from msgspec import UNSET

from aggregator.core import json_pointer, timestamp
from aggregator.event import Event
from aggregator.outcome import Fault, Invalid
from aggregator.stage import IntakeStage
from aggregator_stages.schemas import (
    NO_TEXT,
    UNKNOWN,
    CloudEventSchema,
    EventSchema,
    InternetTime,
    OneLine,
    Timestamp,
    extension_faults,
)

# Of more events, or larger ones, the event loop has a turn between some and the next ones. It
# takes a few milliseconds to check so many, or to tell what is wrong with so many.
_MOST_CHECKED = 1000
_MOST_TOLD = 50
_LARGE = 65_536  # bytes
_EXPLAINED = 1000  # further ones are told their first fault only
_OWN = ("topic", "event_id", "timestamp", "source")
_LONGEST_ATTRIBUTES = 65_536  # bytes
_TOO_LONG = Fault("", f"The attributes come to more than {_LONGEST_ATTRIBUTES:,} bytes.")
_MOST = 10  # faults of one event
_MOST_KNOWN = 1000  # topics, sources, attributes
_LONGEST_KNOWN = 1024  # bytes of attributes that are remembered
# A fraction is not among them: as a key of a set it is the same as the integer of its value.
_KNOWN_BY_VALUE = (str, int, bool)

_object = msgspec.json.Decoder(dict[str, Any])
_spelled = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EMPTY: dict[bytes, Any] = {b"{": {}, b"[": []}


class Validate(IntakeStage):
    """Settles as invalid what the schema of its form does not accept."""

    accepts: ClassVar[dict[str, type[Schema]]] = {
        "application/json": EventSchema,
        "application/cloudevents+json": CloudEventSchema,
    }

    def __init__(self) -> None:
        self._own = Contract(EventSchema())
        self._cloud = Contract(CloudEventSchema())

    async def process(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return the events that keep the schema."""
        invalid: list[tuple[Event, Fault]] = []
        sizes = [len(event.attributes) for event in events]
        for place, some in enumerate(_slices(events, sizes, _MOST_CHECKED)):
            if place:
                await asyncio.sleep(0)
            invalid += self._invalid(some)
        if not invalid:
            return events
        told = 0
        sizes = [len(event.raw) for event, _ in invalid]
        for few in _slices(invalid, sizes, _MOST_TOLD):
            if told:
                await asyncio.sleep(0)
            self._refuse(few, told)
            told += len(few)
        return [event for event in events if event.outcome is None]

    def _invalid(self, events: Sequence[Event]) -> list[tuple[Event, Fault]]:
        own, cloud = self._own.first_fault, self._cloud.first_fault
        return [
            (event, fault)
            for event in events
            if (fault := (cloud if event.attributes else own)(event))
        ]

    def _contract(self, event: Event) -> "Contract":
        return self._cloud if event.attributes else self._own

    def _refuse(self, invalid: Sequence[tuple[Event, Fault]], told: int) -> None:
        for count, (event, first) in enumerate(invalid, told):
            faults = self._contract(event).faults(event) if count < _EXPLAINED else []
            event.settle(Invalid(tuple(faults or [first])))


class Contract:
    """What a schema asks of events.

    An event that could be parsed has members of the right types, so `first_fault` only runs the
    schema's own validators, and not on topics, sources and attributes that they have accepted
    before. marshmallow itself looks at what they decline, and lists every fault.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._names = {name: field.data_key or name for name, field in schema.fields.items()}
        texts = {n: field for n, field in schema.fields.items() if isinstance(field, fields.String)}
        checks = [(name, self._names[name], _checks(field)) for name, field in texts.items()]
        self._own = [check for check in checks if check[0] in _OWN]
        self._attributes = [check for check in checks if check[0] not in _OWN]
        self._optional = {name for name, field in texts.items() if not field.required}
        self._shortest, self._longest = _lengths(texts["event_id"], OneLine)
        time = texts["timestamp"]
        _, self._longest_timestamp = _lengths(time, Timestamp, InternetTime)
        self._takes_any_spelling = type(_checks(time)[-1]) is Timestamp
        self._takes_no_timestamp = not time.required
        self._topics: set[str] = set()
        self._sources: set[str] = set()
        self._lines = {self._names[name] for name, field in texts.items() if _takes_a_line(field)}
        """The named attributes of which any line that is not empty is accepted."""
        self._known_lines = set(self._lines)
        """The same, and extensions of which one was accepted."""
        self._known_attributes: set[tuple[str, object]] = set()
        """Others by name and value."""

    def first_fault(self, event: Event) -> Fault | None:
        """What is wrong with the event, or None."""
        if event.malformed:
            return Fault("", event.malformed)
        is_plainly_good = (  # as nearly all are; the validators take several times as long
            event.topic in self._topics
            and event.source in self._sources
            and self._shortest <= len(event.event_id) <= self._longest
            and event.event_id.isprintable()
            and (
                (
                    event.known_timestamp_us is not None
                    and event.known_timestamp_us is not UNSET
                    and len(event.timestamp) <= self._longest_timestamp
                    and (self._takes_any_spelling or timestamp.is_rfc_3339(event.timestamp))
                )
                or (not event.timestamp and self._takes_no_timestamp)
            )
        )
        if not is_plainly_good and (fault := self._fault_of_members(event)):
            return fault
        return self._fault_of_attributes(event.attributes) if event.attributes else None

    def faults(self, event: Event) -> list[Fault]:
        """Everything that is wrong with the event, up to a limit."""
        members: Any = None
        with suppress(msgspec.ValidationError):  # it is no object
            members = _Shallow(event.raw) if event.malformed else self._members(event)
            known = {shown: members[shown] for shown in self._names.values() if shown in members}
            members = known | {name: members[name] for name in islice(self._odd(members), _MOST)}
        found = list(islice(_flatten((), self._schema.validate(members)), _MOST))
        return [_TOO_LONG, *found] if len(event.attributes) > _LONGEST_ATTRIBUTES else found

    def _fault_of_members(self, event: Event) -> Fault | None:
        for name, shown, checks in self._own:
            value = getattr(event, name)
            if not value and name in self._optional:
                continue
            if fault := _fault(shown, value, checks):
                return fault
        _learn(self._topics, event.topic)
        _learn(self._sources, event.source)
        return None

    def _fault_of_attributes(self, attributes: bytes) -> Fault | None:
        if len(attributes) > _LONGEST_ATTRIBUTES:
            return _TOO_LONG
        members = _object.decode(attributes)
        if self._are_plainly_good(members):
            return None
        for _, shown, checks in self._attributes:
            if shown in members and (fault := _fault(shown, members[shown], checks)):
                return fault
        for name, told in extension_faults(members):
            return Fault(json_pointer.to(name), told)
        if len(attributes) <= _LONGEST_KNOWN:
            self._learn_attributes(members)
        return None

    def _are_plainly_good(self, attributes: Mapping[str, Any]) -> bool:
        for name, value in attributes.items():
            kind = type(value)
            if kind is str and name in self._known_lines and value and value.isprintable():
                continue
            if kind not in _KNOWN_BY_VALUE or (name, value) not in self._known_attributes:
                return False
        return True

    def _learn_attributes(self, accepted: Mapping[str, Any]) -> None:
        named = self._names.values()
        for name, value in accepted.items():
            if type(value) is str and name not in named:
                if len(self._known_lines) >= _MOST_KNOWN:
                    self._known_lines = set(self._lines)
                self._known_lines.add(name)
            elif name not in self._lines:
                _learn(self._known_attributes, (name, value))

    def _odd(self, members: Mapping[str, Any]) -> Iterator[str]:
        """The names of members that the schema has none for and would not let pass."""
        if self._schema.unknown == RAISE:
            return (name for name in members if name not in self._names)
        return (name for name, _ in extension_faults(members))

    def _members(self, event: Event) -> dict[str, Any]:
        """The event as the schema takes it. Its payload keeps the contract already."""
        own: dict[str, Any] = {self._names[name]: getattr(event, name) for name in _OWN}
        if not event.attributes:
            return own | {"payload": {}}
        if not event.timestamp:
            del own[self._names["timestamp"]]
        return own | _object.decode(event.attributes)


T = TypeVar("T")


def _learn(known: set[T], value: T) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known.add(value)


def _slices(items: Sequence[T], sizes: Sequence[int], most: int) -> Iterator[Sequence[T]]:
    """So many items at a time, and bytes of them: after each the event loop needs a turn."""
    if len(items) <= most and sum(sizes) <= _LARGE:
        yield items
        return
    some: list[T] = []
    held = 0
    for item, size in zip(items, sizes, strict=True):
        some.append(item)
        held += size
        if len(some) >= most or held > _LARGE:
            yield some
            some, held = [], 0
    if some:
        yield some


class _Shallow(Mapping[str, Any]):
    """The members of an object, read when they are asked for.

    Of arrays and objects among them only which they are: nothing else is asked about them.
    """

    def __init__(self, raw: bytes) -> None:
        """Raises msgspec.ValidationError for anything but an object."""
        self._spelled = _spelled.decode(raw)

    def __getitem__(self, name: str) -> Any:
        spelled = bytes(self._spelled[name])
        if spelled[:1] in _EMPTY:
            return _EMPTY[spelled[:1]]
        try:
            return msgspec.json.decode(spelled)
        except msgspec.MsgspecError:  # a number that a double holds, of too many digits for msgspec
            return 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._spelled)

    def __len__(self) -> int:
        return len(self._spelled)


def _checks(field: fields.Field[Any]) -> list[validate.Validator]:
    return [check for check in field.validators if isinstance(check, validate.Validator)]


def _lengths(field: fields.Field[Any], *kinds: type[validate.Validator]) -> tuple[int, int]:
    """The shortest and the longest text that the field accepts where one of `kinds` accepts it.

    None at all unless its validators are one of lengths and one of exactly such a kind.
    """
    checks = _checks(field)
    if [type(check) for check in checks] not in [[validate.Length, kind] for kind in kinds]:
        return 0, -1
    length = checks[0]
    assert isinstance(length, validate.Length)
    return length.min or 0, sys.maxsize if length.max is None else length.max


def _takes_a_line(field: fields.Field[Any]) -> bool:
    """Whether the field accepts every line that is not empty."""
    return _lengths(field, OneLine) in ((0, sys.maxsize), (1, sys.maxsize))


def _fault(name: str, value: object, checks: Sequence[validate.Validator]) -> Fault | None:
    if not isinstance(value, str):
        return Fault(json_pointer.to(name), NO_TEXT)
    try:
        for check in checks:
            check(value)
    except ValidationError as error:
        return Fault(json_pointer.to(name), str(error.messages[0]))
    return None


def _place(error: tuple[object, object]) -> str:
    """Unknown members last, by name: marshmallow finds them in a set, which has no order."""
    name, said = error
    return str(name) if said == [UNKNOWN] else ""


def _flatten(path: tuple[str, ...], errors: object) -> Iterator[Fault]:
    if isinstance(errors, Mapping):
        for name, inner in sorted(errors.items(), key=_place):
            yield from _flatten(path if name == "_schema" else (*path, str(name)), inner)
    elif isinstance(errors, list):
        for inner in errors:
            yield from _flatten(path, inner)
    else:
        yield Fault(json_pointer.to(*path), str(errors))
