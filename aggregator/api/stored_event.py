"""Renders a stored event: as JSON, as a line, and as a CloudEvent."""

import base64
import re
from typing import Any
from urllib.parse import quote

import msgspec

from aggregator.core import timestamp
from aggregator.core.identity import PayloadKind, is_damaged
from aggregator.store import StoredEvent

_DAMAGED = "What is stored does not match the hash made when it was received."
_EMPTIED = "The payload is kept no more."
_OURS = "aggregator"  # begins the names of our extensions, so that they are nobody else's
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def render_json(found: StoredEvent) -> dict[str, Any]:
    """Its members as they were sent, and what the service knows of it."""
    told: dict[str, Any] = {
        "seq": found.seq,
        "received_at": timestamp.rfc_3339(found.received_at),
        "topic": found.topic,
        "event_id": found.event_id,
        "timestamp": found.timestamp or None,
        "source": found.source,
    }
    if found.attributes:
        told["attributes"] = _attributes(found)
    if why := _missing(found):
        return {**told, "payload": None, **why}
    return told | _payload(found, "payload", "payload_base64")


def render_line(found: StoredEvent) -> bytes:
    """The same on one line. Only white space between a payload's values can hold a line break."""
    return msgspec.json.encode(render_json(found)).translate(_ONE_LINE)


def render_cloud_event(found: StoredEvent) -> dict[str, Any]:
    """As a structured CloudEvent, also if it came as a plain event."""
    if not found.attributes:
        return _render_plain_as_cloud_event(found)
    told = {
        "specversion": "1.0",
        "type": found.topic,
        "id": found.event_id,
        "source": found.source,
    }
    if time := _rfc_3339(found.timestamp or ""):
        told["time"] = time
    return told | _attributes(found) | _data(found)


def payload_state(found: StoredEvent) -> str:
    """A word that changes when what can be shown of the payload does."""
    if found.payload is None:
        return "emptied"
    return "damaged" if _is_damaged(found) else "whole"


def _render_plain_as_cloud_event(found: StoredEvent) -> dict[str, Any]:
    told = {
        "specversion": "1.0",
        "type": found.topic,
        "id": found.event_id,
        "source": uri_reference(found.source),
        "datacontenttype": "application/json",
    }
    if time := _rfc_3339(found.timestamp or ""):
        told["time"] = time
    return told | _data(found)


def _data(found: StoredEvent) -> dict[str, Any]:
    if why := _missing(found):
        return {f"{_OURS}{name}": told for name, told in why.items()}
    return _payload(found, "data", "data_base64")


def _payload(found: StoredEvent, as_json: str, as_base64: str) -> dict[str, Any]:
    """The payload under the name for its form; nothing where the event came without one."""
    if found.payload_kind is PayloadKind.NOTHING or found.payload is None:
        return {}
    if found.payload_kind is PayloadKind.BYTES:
        return {as_base64: base64.b64encode(found.payload).decode()}
    return {as_json: msgspec.Raw(found.payload)}


def _missing(found: StoredEvent) -> dict[str, str]:
    """Why the payload cannot be shown, under a word for it; empty if it can."""
    match payload_state(found):
        case "emptied" if found.payload_kind is not PayloadKind.NOTHING:
            return {"emptied": _EMPTIED}
        case "damaged":
            return {"damaged": _DAMAGED}
    return {}


def _is_damaged(found: StoredEvent) -> bool:
    return is_damaged(found.source, found.payload, found.digest, found.payload_kind)


def _attributes(found: StoredEvent) -> dict[str, Any]:
    """A CloudEvent's other attributes; none where not even their JSON is whole."""
    try:
        return msgspec.json.decode(found.attributes, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _rfc_3339(text: str) -> str:
    """The time in a spelling that CloudEvents know; empty where it has none."""
    if timestamp.is_rfc_3339(text):
        return text
    try:
        return timestamp.rfc_3339(timestamp.parse(text))
    except (ValueError, OverflowError):
        return ""


_IN_A_URI = ":/?#[]@!$&'()*+,;=%~"
_ESCAPED = "%[0-9A-Fa-f]{2}"
_NAME = rf"(?:[\w.~!$&'()*+,;=-]|{_ESCAPED})"
_USER = rf"(?:[\w.~!$&'()*+,;=:-]|{_ESCAPED})*"
_CHARACTER = rf"(?:[\w.~!$&'()*+,;=:@-]|{_ESCAPED})"
_NO_COLON = rf"(?:[\w.~!$&'()*+,;=@-]|{_ESCAPED})"
_MORE = rf"(?:/{_CHARACTER}*)*"
_AUTHORITY = rf"//(?:{_USER}@)?(?:\[[0-9A-Fa-f:.]+\]|{_NAME}*)(?::[0-9]*)?{_MORE}"
_ABSOLUTE = rf"/(?:{_CHARACTER}+{_MORE})?"
_TAIL = rf"(?:\?(?:{_CHARACTER}|[/?])*)?(?:#(?:{_CHARACTER}|[/?])*)?"
_REFERENCE = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.-]*:(?:{_AUTHORITY}|{_ABSOLUTE}|{_CHARACTER}+{_MORE}|)"
    rf"|{_AUTHORITY}|{_ABSOLUTE}|{_NO_COLON}+{_MORE}|){_TAIL}",
    re.ASCII,
)


def uri_reference(text: str) -> str:
    """The text as a URI reference: itself if it is one, and else with what is none escaped.

    That is what an IRI has beyond a URI, such as letters outside ASCII; if that does not make it
    one, then everything but letters, digits and slashes.
    """
    mapped = quote(text, safe=_IN_A_URI)
    return mapped if _REFERENCE.fullmatch(mapped) else quote(text, safe="/")
