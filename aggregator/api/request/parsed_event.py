"""What the bytes of an event say, or why they are rejected; parses the service's own form."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from aggregator.api.request import splitting, strict_json
from aggregator.api.request.strict_json import Place
from aggregator.core.identity import MissingKeyPart, PayloadKind
from aggregator.core.quoting import cut
from aggregator.outcome import Fault

LONGEST_NAME = 255
"""Characters of a topic or event_id that an answer repeats."""


class ParsedEvent(msgspec.Struct, frozen=True):
    """The members of an event, of the right types and not yet validated."""

    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: bytes
    payload_kind: PayloadKind = PayloadKind.JSON
    attributes: bytes = b""


class EventParser(NamedTuple):
    """Parses one event of a certain form."""

    parse: Callable[[bytes, Place], ParsedEvent]
    """The event of these bytes, which begin there in the body. Raises RejectedEvent."""
    parse_together: Callable[[Sequence[bytes]], list[ParsedEvent]]
    """The quick way to the events of many such bytes; none where any of them is in doubt."""
    attributes: bytes
    """Those of an event that cannot be parsed; where they are empty, it is no CloudEvent."""
    topic: str
    event_id: str
    """What the members are named that hold these."""
    several: str
    """What to do where a body that should be one event holds several."""

    def names(self, raw: bytes) -> tuple[str, str]:
        """Topic and event_id of what was rejected, cut; empty where they cannot be read."""
        found: dict[str, str] = {}
        for name, value in splitting.members(raw):
            if name in (self.topic, self.event_id):
                # Of one that stands twice nobody knows which is meant.
                found[name] = "" if name in found else _shown(value)
        return found.get(self.topic, ""), found.get(self.event_id, "")


class RejectedEvent(Exception):
    """The bytes are no event: they hold faults, or are JSON of another shape (`malformed`).

    Where they are no JSON at all, `is_unreadable` is true.
    """

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        malformed: str = "",
        is_unreadable: bool = False,
    ) -> None:
        super().__init__(malformed, faults)
        self.faults = tuple(faults)
        self.malformed = malformed
        self.is_unreadable = is_unreadable

    @classmethod
    def explained(cls, raw: bytes, begin: Place, why: str) -> "RejectedEvent":
        """What is wrong with bytes that msgspec declined, and that begin there in the body."""
        if faults := strict_json.faults(raw, begin):
            return cls.of_json(faults)
        try:
            _any.decode(raw)
        except strict_json.UNREADABLE:
            return cls.of_json([Fault("", f"not JSON that is taken: {why}")])
        return cls((), cut(_PYTHON_TYPE.sub(_json_type, why)))

    @classmethod
    def without_key(cls, parsed: ParsedEvent, missing: MissingKeyPart) -> "RejectedEvent":
        """An event that lacks a part of its key.

        If that is a member, it is left to a stage to say what else is wrong with the event.
        """
        if missing.is_member:
            return cls((), str(missing))
        payload = "/data" if parsed.attributes else "/payload"
        place = f"{payload}{missing.part}" if missing.part.startswith("/") else ""
        return cls([Fault(place, str(missing))])

    @classmethod
    def of_json(cls, faults: Sequence[Fault]) -> "RejectedEvent":
        """JSON that is not taken; unreadable where the fault is that of the whole."""
        return cls(faults, is_unreadable=not faults[0].pointer)


def _shown(value: bytes) -> str:
    try:
        text = _text.decode(value)
    except strict_json.UNREADABLE:
        return ""
    return "" if "\0" in text else cut(text, LONGEST_NAME)


_JSON_TYPES = {"str": "string", "int": "number", "float": "number", "bool": "boolean"}
_PYTHON_TYPE = re.compile(f"(?<=`)(?:{'|'.join(_JSON_TYPES)})(?=`)")


def _json_type(found: re.Match[str]) -> str:
    return _JSON_TYPES[found[0]]


class _OwnMembers(msgspec.Struct, forbid_unknown_fields=True):
    """The members of an event in the service's own form."""

    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: msgspec.Raw


_QUOTES = 18  # around five names and four strings
_OBJECT = ord("{")

_one = msgspec.json.Decoder(_OwnMembers)
_many = msgspec.json.Decoder(list[_OwnMembers])
_object = msgspec.json.Decoder(dict[str, Any])
_text = msgspec.json.Decoder(str)
_any = msgspec.json.Decoder(msgspec.Raw)


def parse_array(array: bytes) -> list[ParsedEvent]:
    """The events of an array in the service's own form; none where any of them is in doubt."""
    try:
        return _unless_in_doubt(_many.decode(array), array)
    except strict_json.UNREADABLE:
        return []


def parse_lines(lines: Sequence[bytes]) -> list[ParsedEvent]:
    """The same for events that are split already."""
    try:
        return _unless_in_doubt([_one.decode(line) for line in lines], b",".join(lines))
    except strict_json.UNREADABLE:
        return []


def _unless_in_doubt(members: Sequence[_OwnMembers], text: bytes) -> list[ParsedEvent]:
    payloads = [bytes(event.payload) for event in members]
    if {payload[0] for payload in payloads} != {_OBJECT}:
        return []
    if not strict_json.is_surely_taken(text, payloads, _QUOTES * len(members)):
        return []
    return [
        ParsedEvent(event.topic, event.event_id, event.timestamp, event.source, payload)
        for event, payload in zip(members, payloads, strict=True)
    ]


def _parse(raw: bytes, begin: Place) -> ParsedEvent:
    """One event in the service's own form. Raises RejectedEvent."""
    try:
        event = _one.decode(raw)
        payload = bytes(event.payload)
        if payload[0] != _OBJECT:
            _object.decode(payload)  # raises, with the words for it
    except strict_json.UNREADABLE as error:
        raise RejectedEvent.explained(raw, begin, str(error)) from error
    is_in_doubt = not strict_json.is_surely_taken(raw, [payload], _QUOTES)
    if is_in_doubt and (faults := strict_json.faults(raw, begin)):
        raise RejectedEvent.of_json(faults)
    return ParsedEvent(event.topic, event.event_id, event.timestamp, event.source, payload)


OWN = EventParser(
    _parse,
    parse_lines,
    b"",
    "topic",
    "event_id",
    "One event a line is application/x-ndjson; others stand in an array.",
)
