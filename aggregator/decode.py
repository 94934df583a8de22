"""Turns bytes into events; what is not JSON it refuses, event by event.

The fast way is msgspec, from bytes to typed members with the payload left as it came. Whatever
it declines is looked at again, slowly, by `strict_json`, for a message that helps.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import structs

from aggregator import split, strict_json
from aggregator.content import digest_of
from aggregator.errors import TooLarge, Unparsable
from aggregator.event import Event
from aggregator.key import Missing, key_of
from aggregator.outcome import Fault, Invalid
from aggregator.rules import Rules

_DECLINED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_SHOWN_MEMBERS = ("topic", "event_id")
_SHOWN = 255


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: msgspec.Raw


_NAMES = [f'"{name}"'.encode() for name in _Shape.__struct_fields__]
_DIGITS_OF_A_DOUBLE = 308
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_DIGITS_OF_A_DOUBLE + 1))

_shape = msgspec.json.Decoder(_Shape)
_object = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True)
class Arrival:
    """What the events of one request have in common."""

    submission: str
    received_at: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that keys are made of, by their names in lower case."""


class Decoder:
    """Decodes bodies under two limits: events in a submission, and bytes of one event.

    What is wrong with one event of several settles that one as invalid, so that its neighbours
    are not refused with it. Raises Unparsable where no event can be told from another, and
    TooLarge over a limit.
    """

    def __init__(self, max_events: int, max_event: int, rules: Rules) -> None:
        self.max_events = max_events
        self.max_event = max_event
        self.rules = rules

    def json(self, body: bytes, arrival: Arrival) -> list[Event]:
        """The events of a JSON body: one, or an array of them."""
        body = split.trimmed(body)
        if not body.startswith(b"["):
            return [self._single(body, arrival)]
        raws = split.elements(body, self.max_events)
        if not raws:
            raise Unparsable("The array is empty: send at least one event.")
        return self._events(raws, arrival)

    def ndjson(self, body: bytes, arrival: Arrival) -> list[Event]:
        """The events of newline-delimited JSON, one a line; blank lines are passed over."""
        raws = split.lines(body, self.max_events)
        if not raws:
            raise Unparsable("The body is empty: send at least one event, one a line.")
        return self._events(raws, arrival)

    def _single(self, body: bytes, arrival: Arrival) -> Event:
        if not body:
            raise Unparsable("The body is empty: send an event or an array of events.")
        if len(body) > self.max_event:
            raise TooLarge(self._too_long(body))
        event = self._event(body, 0, arrival)
        if isinstance(event.outcome, Invalid) and not event.outcome.faults[0].pointer:
            raise Unparsable(f"The body is {event.outcome.faults[0].detail}.")
        return event

    def _events(self, raws: Sequence[bytes], arrival: Arrival) -> list[Event]:
        return [self._event(raw, index, arrival) for index, raw in enumerate(raws)]

    def _event(self, raw: bytes, index: int, arrival: Arrival) -> Event:
        if len(raw) > self.max_event:
            return _refused([Fault("", self._too_long(raw))], _blank(raw, index, arrival))
        try:
            shape = _shape.decode(raw)
            payload = bytes(shape.payload)
            _object.decode(payload)
        except _DECLINED as error:
            return _declined(raw, str(error), _blank(raw, index, arrival))
        if _is_suspect(raw, payload) and (faults := strict_json.faults(raw)):
            return _refused(faults, _blank(raw, index, arrival))
        rules = self.rules.of(shape.topic)
        key = name = key_of(shape.topic, shape.event_id)
        if not rules.recipe.is_usual:
            try:
                key = rules.recipe.key(structs.asdict(shape), payload, arrival.headers)
            except Missing as missing:
                fault = Fault(f"/payload{missing.where}" if missing.where else "", str(missing))
                return _refused([fault], _blank(raw, index, arrival))
        return Event(
            index,
            arrival.submission,
            arrival.received_at,
            shape.topic,
            shape.event_id,
            shape.timestamp,
            shape.source,
            payload,
            key,
            digest_of(shape.source, payload),
            name=b"" if key == name else name,
            on_conflict=rules.on_conflict,
        )

    def _too_long(self, raw: bytes) -> str:
        return f"The event has {len(raw):,} bytes; max_event allows {self.max_event:,}."


def _is_suspect(raw: bytes, payload: bytes) -> bool:
    """Whether msgspec may have let something through that is not taken; cheap."""
    return (
        b"\\u0000" in raw
        or raw.count(b"[") + raw.count(b"{") > strict_json.MAX_DEPTH
        or (len(raw) > _DIGITS_OF_A_DOUBLE and _LONG_NUMBER.search(raw) is not None)
        or raw.count(b"\\") > payload.count(b"\\")
        or any(raw.count(name) > 1 + payload.count(name) for name in _NAMES)
    )


def _declined(raw: bytes, why: str, blank: Event) -> Event:
    """What msgspec declined: refused with its faults, or malformed with what can be shown."""
    if faults := strict_json.faults(raw):
        return _refused(faults, blank)
    try:
        members = msgspec.json.decode(raw)
    except _DECLINED:
        return _refused([Fault("", f"not JSON that is taken: {why}")], blank)
    shown = {}
    if isinstance(members, dict):
        shown = {
            name: members[name][:_SHOWN]
            for name in _SHOWN_MEMBERS
            if isinstance(members.get(name), str)
        }
    return structs.replace(blank, malformed=why, **shown)


def _blank(raw: bytes, index: int, arrival: Arrival) -> Event:
    return Event(index, arrival.submission, arrival.received_at, raw=raw)


def _refused(faults: list[Fault], blank: Event) -> Event:
    blank.settle(Invalid(tuple(faults)))
    return blank
