"""Reads a CloudEvent 1.0 in the JSON format.

`type`, `id`, `source` and `time` are an event's topic, event_id, source and timestamp; `data` or
`data_base64` is its payload; everything else is kept beside it, spelled as it came.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from aggregator.api.request import strict_json
from aggregator.api.request.parsed_event import Declined, Kind, Shape
from aggregator.core.identity import PayloadKind

_REQUIRED = ("specversion", "type", "id", "source")
_ELSEWHERE = ("type", "id", "source", "time", "data", "data_base64")

_members = msgspec.json.Decoder(dict[str, Any])
_spelled = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(raw: bytes) -> Shape:
    """The members of the event; one that is null is as good as absent, but for `data`.

    Raises Declined.
    """
    try:
        members = _members.decode(raw)
        spelled = _spelled.decode(raw)
    except strict_json.UNREADABLE as error:
        raise Declined.looked_at(raw, str(error), "type", "id") from error
    data = bytes(spelled["data"]) if "data" in spelled else b""
    if strict_json.is_suspect(raw, data, _quotes(members)) and (faults := strict_json.faults(raw)):
        raise Declined.of_json(faults)
    if why := _wrong(members):
        raise Declined.looked_at(raw, why, "type", "id")
    form, payload = _content(members, data)
    attributes = {
        name: value
        for name, value in spelled.items()
        if name not in _ELSEWHERE and members[name] is not None
    }
    return Shape(
        members["type"],
        members["id"],
        members.get("time") or "",
        members["source"],
        payload,
        form,
        msgspec.json.encode(attributes),
    )


CLOUD = Kind(read, b"{}")


def _quotes(members: Mapping[str, Any]) -> int:
    """How many stand around `data` where no name stands twice."""
    texts = sum(1 for name, value in members.items() if isinstance(value, str) and name != "data")
    return 2 * (len(members) + texts)


def _wrong(members: Mapping[str, Any]) -> str:
    """Why this has not the shape of a CloudEvent; empty if it has."""
    for name in _REQUIRED:
        if not isinstance(members.get(name), str):
            return f"A CloudEvent has a {name}, which is a string."
    time = members.get("time")
    if time is not None and not (isinstance(time, str) and time):
        return "The time of a CloudEvent is a timestamp, if it has one."
    if has_data_twice(members):
        return "A CloudEvent has data or data_base64, not both."
    encoded = members.get("data_base64")
    if encoded is not None and not is_base64(encoded):
        return "The data_base64 of a CloudEvent is base64."
    return ""


def has_data_twice(members: Mapping[str, Any]) -> bool:
    """Whether it has both JSON and bytes as its data; null is neither beside the other."""
    return members.get("data") is not None and members.get("data_base64") is not None


def is_base64(encoded: object) -> bool:
    """Whether it is text that stands for bytes (RFC 4648, 4)."""
    if not isinstance(encoded, str):
        return False
    try:
        base64.b64decode(encoded, validate=True)
    except ValueError:
        return False
    return True


def _content(members: Mapping[str, Any], data: bytes) -> tuple[PayloadKind, bytes]:
    encoded = members.get("data_base64")
    if encoded is not None:
        return PayloadKind.BYTES, base64.b64decode(encoded)
    return (PayloadKind.JSON, data) if data else (PayloadKind.NOTHING, b"")
