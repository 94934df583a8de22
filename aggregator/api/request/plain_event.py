"""Reads an event in the service's own form.

The fast way is msgspec, from bytes to typed members with the payload left as it came. Whatever
it declines is looked at again, slowly, by `strict_json`, for a message that helps.
"""

from typing import Any

import msgspec

from aggregator.api.request import strict_json
from aggregator.api.request.parsed_event import EventParser, ParsedEvent, RejectedEvent


class Members(msgspec.Struct, forbid_unknown_fields=True):
    """What a plain event consists of."""

    topic: str
    event_id: str
    timestamp: str
    source: str
    payload: msgspec.Raw


QUOTES = 18
"""Around five names and four strings; where there are more of them, a name stands twice."""

_members = msgspec.json.Decoder(Members)
_object = msgspec.json.Decoder(dict[str, Any])


def read(raw: bytes) -> ParsedEvent:
    """The members of the event. Raises RejectedEvent."""
    try:
        members = _members.decode(raw)
        payload = bytes(members.payload)
        _object.decode(payload)
    except strict_json.UNREADABLE as error:
        raise RejectedEvent.looked_at(raw, str(error), "topic", "event_id") from error
    if strict_json.is_suspect(raw, payload, QUOTES) and (faults := strict_json.faults(raw)):
        raise RejectedEvent.of_json(faults)
    return ParsedEvent(members.topic, members.event_id, members.timestamp, members.source, payload)


PLAIN = EventParser(read, b"")
