"""Turns the body of a request into events; what is not JSON it refuses, event by event.

The fast way is msgspec, from bytes to typed members with the payload left as it came. Whatever
it declines is looked at again, slowly, by `strict_json`, for a message that helps.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from aggregator import strict_json
from aggregator.content import digest_of
from aggregator.errors import TooLarge, Unparsable
from aggregator.event import Event
from aggregator.key import key_of
from aggregator.outcome import Fault, Invalid

_BLANK = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_BRACKETS = 2_000_000  # a second or two of work, in a thread
_COMMA = ord(",")
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_COMMAS_PER_EVENT = 50  # more of them on average, and the array is split with care
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

_array = msgspec.json.Decoder(list[msgspec.Raw])
_shape = msgspec.json.Decoder(_Shape)
_object = msgspec.json.Decoder(dict[str, Any])


class Decoder:
    """Decodes bodies under two limits: events in a submission, and bytes of one event.

    What is wrong with one event of several settles that one as invalid, so that its neighbours
    are not refused with it. Raises Unparsable where no event can be told from another, and
    TooLarge over a limit.
    """

    def __init__(self, max_events: int, max_event: int) -> None:
        self.max_events = max_events
        self.max_event = max_event

    def json(self, body: bytes, submission: str, received_at: int) -> list[Event]:
        """The events of a JSON body: one, or an array of them."""
        body = body.removeprefix(_BYTE_ORDER_MARK).strip(_BLANK)
        if not body.startswith(b"["):
            return [self._single(body, submission, received_at)]
        elements = self._array(body)
        if not elements:
            raise Unparsable("The array is empty: send at least one event.")
        return self._events(elements, submission, received_at)

    def ndjson(self, body: bytes, submission: str, received_at: int) -> list[Event]:
        """The events of newline-delimited JSON, one a line; blank lines are passed over."""
        lines: list[bytes] = []
        for line in re.finditer(rb"[^\n]+", body.removeprefix(_BYTE_ORDER_MARK)):
            if raw := line.group().strip(_BLANK):
                self._check_room(lines)
                lines.append(raw)
        if not lines:
            raise Unparsable("The body is empty: send at least one event, one a line.")
        return self._events(lines, submission, received_at)

    def _single(self, body: bytes, submission: str, received_at: int) -> Event:
        if not body:
            raise Unparsable("The body is empty: send an event or an array of events.")
        if len(body) > self.max_event:
            raise TooLarge(self._too_long(body))
        event = self._event(body, 0, submission, received_at)
        if isinstance(event.outcome, Invalid) and not event.outcome.faults[0].pointer:
            raise Unparsable(f"The body is {event.outcome.faults[0].detail}.")
        return event

    def _events(self, raws: Sequence[bytes], submission: str, received_at: int) -> list[Event]:
        return [self._event(raw, index, submission, received_at) for index, raw in enumerate(raws)]

    def _event(self, raw: bytes, index: int, submission: str, received_at: int) -> Event:
        if len(raw) > self.max_event:
            event = Event(index, submission, received_at)
            return _refused([Fault("", self._too_long(raw))], event)
        try:
            shape = _shape.decode(raw)
            payload = bytes(shape.payload)
            _object.decode(payload)
        except _DECLINED as error:
            return _declined(raw, str(error), Event(index, submission, received_at))
        if _is_suspect(raw, payload) and (faults := strict_json.faults(raw)):
            return _refused(faults, Event(index, submission, received_at))
        return Event(
            index,
            submission,
            received_at,
            shape.topic,
            shape.event_id,
            shape.timestamp,
            shape.source,
            payload,
            key_of(shape.topic, shape.event_id),
            digest_of(shape.source, payload),
        )

    def _too_long(self, raw: bytes) -> str:
        return f"The event has {len(raw):,} bytes; max_event allows {self.max_event:,}."

    def _array(self, body: bytes) -> list[bytes]:
        if body.count(b",") < self.max_events * _COMMAS_PER_EVENT:
            try:
                elements = _array.decode(body)
            except _DECLINED:
                pass
            else:
                if len(elements) > self.max_events:
                    raise self._too_many(f"{len(elements):,}")
                return [bytes(element) for element in elements]
        return self._elements(body)

    def _elements(self, body: bytes) -> list[bytes]:
        """The elements of an array, found by its brackets alone, whatever is wrong inside them."""
        found: list[bytes] = []
        start = 1
        for end in _boundaries(body):
            self._check_room(found)
            found.append(body[start:end].strip(_BLANK))
            start = end + 1
        if start != len(body):
            raise Unparsable("The body is not JSON: it goes on after the end of its array.")
        return [] if found == [b""] else found

    def _check_room(self, found: Sequence[bytes]) -> None:
        if len(found) >= self.max_events:
            raise self._too_many(f"more than {self.max_events:,}")

    def _too_many(self, found: str) -> TooLarge:
        return TooLarge(
            f"The request has {found} events; max_events allows {self.max_events:,} in one."
        )


def _boundaries(body: bytes) -> Iterator[int]:
    """Where the array's own commas stand, and its last bracket."""
    place, depth = 1, 1
    for _ in range(_MOST_BRACKETS):
        mark = (strict_json.MARK if depth == 1 else strict_json.BRACKET).match(body, place)
        if mark is None:
            raise Unparsable("The body is not JSON: its array, or a string in it, never ends.")
        place = mark.end()
        depth += _DEEPER.get(body[place - 1], 0)
        if depth == 0 or (depth == 1 and body[place - 1] == _COMMA):
            yield place - 1
        if depth == 0:
            return
    raise TooLarge(f"The array has more than {_MOST_BRACKETS:,} brackets to look through.")


def _is_suspect(raw: bytes, payload: bytes) -> bool:
    """Whether msgspec may have let something through that is not taken. Cheap, and never wrong
    when it says no, but for members given twice under names spelled with escapes."""
    return (
        b"\\u0000" in raw
        or raw.count(b"[") + raw.count(b"{") > strict_json.MAX_DEPTH
        or (len(raw) > _DIGITS_OF_A_DOUBLE and _LONG_NUMBER.search(raw) is not None)
        or any(raw.count(name) > 1 + payload.count(name) for name in _NAMES)
    )


def _declined(raw: bytes, why: str, blank: Event) -> Event:
    """What msgspec declined: refused with its faults, or malformed with what can be shown."""
    if faults := strict_json.faults(raw):
        return _refused(faults, blank)
    members = msgspec.json.decode(raw)
    shown = {}
    if isinstance(members, dict):
        shown = {
            name: members[name][:_SHOWN]
            for name in _SHOWN_MEMBERS
            if isinstance(members.get(name), str)
        }
    return msgspec.structs.replace(blank, malformed=why, received=raw, **shown)


def _refused(faults: list[Fault], blank: Event) -> Event:
    blank.settle(Invalid(tuple(faults)))
    return blank
