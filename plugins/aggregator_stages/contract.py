"""Holds one event against a schema: quickly for those that keep it, in full for the others."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from aggregator.core import json_pointer
from aggregator.event import Event
from aggregator.outcome import Fault
from aggregator_stages.schemas import extension_faults

_OWN = ("topic", "event_id", "timestamp", "source")
_LONGEST_ATTRIBUTES = 65_536  # bytes
_TOO_LONG = Fault("", f"The attributes come to more than {_LONGEST_ATTRIBUTES:,} bytes.")
_MOST = 10  # faults of one event

_object = msgspec.json.Decoder(dict[str, Any])


class Contract:
    """What a schema asks of events.

    A well-formed event has the right types already, so only the schema's own validators are run
    on it; marshmallow itself looks at what they decline, and lists every fault.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._names = {name: field.data_key or name for name, field in schema.fields.items()}
        texts = {n: field for n, field in schema.fields.items() if isinstance(field, fields.String)}
        checks = [(name, self._names[name], _checks(field)) for name, field in texts.items()]
        self._own = [check for check in checks if check[0] in _OWN]
        self._attributes = [check for check in checks if check[0] not in _OWN]
        self._optional = {name for name, field in texts.items() if not field.required}

    def first_fault(self, event: Event) -> Fault | None:
        """What is wrong with a well-formed event, or None."""
        for name, shown, checks in self._own:
            value = getattr(event, name)
            if not value and name in self._optional:
                continue
            if fault := _fault(shown, value, checks):
                return fault
        return self._fault_of_attributes(event.attributes) if event.attributes else None

    def faults(self, event: Event) -> list[Fault]:
        """Everything that is wrong with the event, up to a limit."""
        members = msgspec.json.decode(event.raw) if event.malformed else self._members(event)
        if isinstance(members, dict):
            known = {shown: members[shown] for shown in self._names.values() if shown in members}
            members = known | {name: members[name] for name in islice(self._odd(members), _MOST)}
        found = list(islice(_flatten((), self._schema.validate(members)), _MOST))
        return [_TOO_LONG, *found] if len(event.attributes) > _LONGEST_ATTRIBUTES else found

    def _fault_of_attributes(self, attributes: bytes) -> Fault | None:
        if len(attributes) > _LONGEST_ATTRIBUTES:
            return _TOO_LONG
        members = _object.decode(attributes)
        for _, shown, checks in self._attributes:
            if shown in members and (fault := _fault(shown, members[shown], checks)):
                return fault
        for name, told in extension_faults(members):
            return Fault(json_pointer.to(name), told)
        return None

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


def _checks(field: fields.Field[Any]) -> list[validate.Validator]:
    return [check for check in field.validators if isinstance(check, validate.Validator)]


def _fault(name: str, value: object, checks: Sequence[validate.Validator]) -> Fault | None:
    if not isinstance(value, str):
        return Fault(json_pointer.to(name), "Not a valid string.")
    try:
        for check in checks:
            check(value)
    except ValidationError as error:
        return Fault(json_pointer.to(name), str(error.messages[0]))
    return None


def _flatten(path: tuple[str, ...], errors: object) -> Iterator[Fault]:
    if isinstance(errors, Mapping):
        for name, inner in errors.items():
            yield from _flatten(path if name == "_schema" else (*path, str(name)), inner)
    elif isinstance(errors, list):
        for inner in errors:
            yield from _flatten(path, inner)
    else:
        yield Fault(json_pointer.to(*path), str(errors))
