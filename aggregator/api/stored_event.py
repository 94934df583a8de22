"""Renders a stored event: as JSON, as a line, and as a CloudEvent."""

import base64
import re
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aggregator import store
from aggregator.api.responses import Answer, AsSent, Base64, DateTime, Seq
from aggregator.core import timestamp
from aggregator.core.identity import PayloadKind, is_damaged

_DAMAGED = "What is stored does not match the checksum that was stored with it."
_EMPTIED = "The payload is kept no more."
_PREFIX = "aggregator"  # of our extension attributes: no publisher has others of that name
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")

# A URI reference as RFC 3986, appendix A, puts it together.
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


class StoredEvent(Answer, kw_only=True):
    """An event as it is read back."""

    seq: Seq
    received_at: Annotated[DateTime, Meta(description="When it came.")]
    topic: AsSent
    event_id: AsSent
    timestamp: Annotated[
        str | None, Meta(description="As it was sent; null for a CloudEvent without a time.")
    ]
    source: AsSent
    attributes: Annotated[
        dict[str, Any] | UnsetType, Meta(description="What else a CloudEvent says of itself.")
    ] = UNSET
    payload: Annotated[
        msgspec.Raw | UnsetType,
        Meta(
            description="Byte for byte as it was sent, but for line breaks where the event is one "
            "line. Missing where it came without one; null where it cannot be shown."
        ),
    ] = UNSET
    payload_base64: Annotated[
        Base64 | UnsetType, Meta(description="A payload that is no JSON.")
    ] = UNSET
    damaged: Annotated[
        str | UnsetType,
        Meta(
            description="Why the payload is not shown: some part of the event is not as it was "
            "stored. What else is shown of it cannot be relied on either."
        ),
    ] = UNSET
    emptied: Annotated[
        str | UnsetType, Meta(description="Why the payload cannot be shown: it is kept no more.")
    ] = UNSET


def render_json(found: store.StoredEvent) -> StoredEvent:
    """The event as JSON: its members as they were sent, and what the service knows of it."""
    rendered = StoredEvent(
        seq=found.seq,
        received_at=timestamp.rfc_3339(found.received_at),
        topic=found.topic,
        event_id=found.event_id,
        timestamp=found.timestamp or None,
        source=found.source,
    )
    if found.attributes:
        rendered.attributes = _attributes(found)
    if why := _missing(found):
        rendered.payload = msgspec.Raw(b"null")
        rendered.damaged = why.get("damaged", UNSET)
        rendered.emptied = why.get("emptied", UNSET)
        return rendered
    payload = _payload(found)
    if isinstance(payload, msgspec.Raw):
        rendered.payload = payload
    elif payload is not None:
        rendered.payload_base64 = payload
    return rendered


def render_line(found: store.StoredEvent) -> bytes:
    """The same on one line. A payload has line breaks only in the white space between values."""
    return msgspec.json.encode(render_json(found)).translate(_ONE_LINE)


def render_cloud_event(found: store.StoredEvent) -> dict[str, Any]:
    """The event as a structured CloudEvent, also if it came as a plain event."""
    if not found.attributes:
        return _render_plain_as_cloud_event(found)
    rendered = {
        "specversion": "1.0",
        "type": found.topic,
        "id": found.event_id,
        "source": found.source,
    }
    if time := _rfc_3339(found.timestamp or ""):
        rendered["time"] = time
    return rendered | _attributes(found) | _data(found)


def payload_state(found: store.StoredEvent) -> str:
    """`whole`, `damaged` or `emptied`; in the ETag it changes with what can be shown."""
    if _is_damaged(found):
        return "damaged"
    return "emptied" if found.payload is None else "whole"


def _render_plain_as_cloud_event(found: store.StoredEvent) -> dict[str, Any]:
    rendered = {
        "specversion": "1.0",
        "type": found.topic,
        "id": found.event_id,
        "source": uri_reference(found.source),
        "datacontenttype": "application/json",
    }
    if time := _rfc_3339(found.timestamp or ""):
        rendered["time"] = time
    return rendered | _data(found)


def _data(found: store.StoredEvent) -> dict[str, Any]:
    if why := _missing(found):
        return {f"{_PREFIX}{name}": reason for name, reason in why.items()}
    payload = _payload(found)
    if isinstance(payload, msgspec.Raw):
        return {"data": payload}
    return {"data_base64": payload} if payload is not None else {}


def _payload(found: store.StoredEvent) -> msgspec.Raw | str | None:
    """The payload as JSON or in base64; None where the event came without one."""
    if found.payload_kind is PayloadKind.NOTHING or found.payload is None:
        return None
    if found.payload_kind is PayloadKind.BYTES:
        return base64.b64encode(found.payload).decode()
    return msgspec.Raw(found.payload)


def _missing(found: store.StoredEvent) -> dict[str, str]:
    """Why the payload cannot be shown, under the name of the member; empty if it can."""
    match payload_state(found):
        case "emptied" if found.payload_kind is not PayloadKind.NOTHING:
            return {"emptied": _EMPTIED}
        case "damaged":
            return {"damaged": _DAMAGED}
    return {}


def _is_damaged(found: store.StoredEvent) -> bool:
    """By the store's own checksum, or by the digest, which was made before the store had it."""
    return found.is_damaged or is_damaged(
        found.source, found.payload, found.digest, found.payload_kind
    )


def _attributes(found: store.StoredEvent) -> dict[str, Any]:
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


def uri_reference(text: str) -> str:
    """The text as a URI reference: itself if it is one, and else with what is none escaped.

    That is what an IRI has beyond a URI, such as letters outside ASCII; if that does not make it
    one, then everything but letters, digits and slashes.
    """
    mapped = quote(text, safe=_IN_A_URI)
    return mapped if _REFERENCE.fullmatch(mapped) else quote(text, safe="/")
