"""Reads a CloudEvent 1.0, in the structured mode (JSON) or the binary mode of HTTP.

`type`, `id`, `source` and `time` are an event's topic, event_id, source and timestamp; `data` or
`data_base64` is its payload; everything else is kept beside it, spelled as it came.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web

from aggregator.api.request import splitting, strict_json
from aggregator.api.request.media_type import check_json_charset, header_text, is_utf8
from aggregator.api.request.parsed_event import OWN, EventParser, ParsedEvent, RejectedEvent
from aggregator.api.request.strict_json import Place
from aggregator.core.cloudevents import has_data_twice, is_base64
from aggregator.core.identity import PayloadKind
from aggregator.errors import Unparsable

_REQUIRED = ("specversion", "type", "id", "source")
_ELSEWHERE = ("type", "id", "source", "time", "data", "data_base64")
_QUOTES = 2  # around the name of a member

_LARGE = 65_536  # bytes; what is larger is no attribute that is taken, and is not looked into

_spelled = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _parse(raw: bytes, begin: Place) -> ParsedEvent:
    """One event in the structured mode; a member that is null is absent, unless it is `data`.

    Raises RejectedEvent.
    """
    try:
        spelled = {name: bytes(value) for name, value in _spelled.decode(raw).items()}
        members = {name: _value(name, value) for name, value in spelled.items()}
    except strict_json.UNREADABLE as error:
        raise RejectedEvent.explained(raw, begin, str(error)) from error
    values = list(spelled.values())
    is_in_doubt = not strict_json.is_surely_taken(raw, values, _QUOTES * len(values))
    if is_in_doubt and (faults := strict_json.faults(raw, begin)):
        raise RejectedEvent.of_json(faults)
    if why := _wrong(members):
        raise RejectedEvent.explained(raw, begin, why)
    form, payload = _content(members, spelled)
    attributes = {
        name: msgspec.Raw(value)
        for name, value in spelled.items()
        if name not in _ELSEWHERE and members[name] is not None
    }
    return ParsedEvent(
        members["type"],
        members["id"],
        members.get("time") or "",
        members["source"],
        payload,
        form,
        msgspec.json.encode(attributes),
    )


def _value(name: str, spelled: bytes) -> Any:
    """The value of a member; of one that may be anything, or is too large, only of which type."""
    if spelled[:1] in _EMPTY and (name == "data" or len(spelled) > _LARGE):
        return _EMPTY[spelled[:1]]
    return msgspec.json.decode(spelled)


_EMPTY: dict[bytes, Any] = {b"{": {}, b"[": []}


CLOUD = EventParser(
    _parse, b"{}", "type", "id", "Several are application/cloudevents-batch+json, an array."
)


def form_of(raw: bytes) -> EventParser:
    """The form of an event that claims to be JSON, and no more.

    `specversion` tells a CloudEvent, which must have it and which no plain event has. `event_id`,
    which every plain event must have, is no name of an attribute: so no event is both.
    """
    if b'"specversion"' not in raw:
        return OWN
    names = {name for name, _ in splitting.members(raw)}
    return CLOUD if "specversion" in names and "event_id" not in names else OWN


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


def _content(members: Mapping[str, Any], spelled: Mapping[str, bytes]) -> tuple[PayloadKind, bytes]:
    encoded = members.get("data_base64")
    if encoded is not None:
        return PayloadKind.BYTES, base64.b64decode(encoded)
    return (PayloadKind.JSON, spelled["data"]) if "data" in spelled else (PayloadKind.NOTHING, b"")


_PREFIX = "ce-"
_NOT_HEADERS = {
    "data": "the body is its data",
    "data_base64": "the body is its data",
    "datacontenttype": "Content-Type says what its data is",
}
_JSON = re.compile(r"[^/]+/(?:[^/]+\+)?json")
_TEXT = re.compile(r"text/[^/]+|[^/]+/(?:[^/]+\+)?xml")
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def from_binary_mode(request: web.Request, body: bytes) -> bytes:
    """The event as JSON, as long as its parts; a header given twice is a member given twice.

    Raises Unparsable where what a header has percent-encoded is not UTF-8, or it says what is said
    elsewhere, or the body is not the JSON that it claims to be; Unsupported where that is in
    another charset.
    """
    members = [*_attributes(request.headers.items()), *_data(request, body)]
    spelled = (b"%b:%b" % (msgspec.json.encode(name), text) for name, text in members)
    return b"{" + b",".join(spelled) + b"}"


def _attributes(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    for header, value in headers:
        name = header.lower().removeprefix(_PREFIX)
        if header.lower() == "content-type" and value:
            yield "datacontenttype", msgspec.json.encode(header_text(value))
        elif name in _NOT_HEADERS and name != header.lower():
            raise Unparsable(f"{header} is no header of a CloudEvent: {_NOT_HEADERS[name]}.")
        elif name != header.lower():
            yield name, _text(header, unquote_to_bytes(_unquoted(header_text(value))))


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return _ESCAPED.sub(r"\1", quoted.group(1)) if quoted else value


def _text(header: str, value: bytes) -> bytes:
    try:
        return msgspec.json.encode(value.decode())
    except UnicodeDecodeError as error:
        raise Unparsable(
            f"What {header} has percent-encoded is not UTF-8: {error.reason}."
        ) from error


def _data(request: web.Request, body: bytes) -> Iterator[tuple[str, bytes]]:
    """The body as a member, in the form that its media type asks for; none if there is no body."""
    if not body:
        return
    has_type = bool(request.headers.get("Content-Type"))
    if has_type and _JSON.fullmatch(request.content_type):
        check_json_charset(request)
        yield "data", _json(body)
    elif not has_type and strict_json.is_json(splitting.trimmed(body)):
        yield "data", splitting.trimmed(body)
    elif has_type and _TEXT.fullmatch(request.content_type) and _is_text(request, body):
        yield "data", msgspec.json.encode(body.decode())
    else:
        yield "data_base64", msgspec.json.encode(body)


def _json(body: bytes) -> bytes:
    """The body, which is one JSON value: anything else could pass for more members."""
    text = splitting.trimmed(body)
    if not strict_json.is_json(text):
        first, *_ = strict_json.faults(text, splitting.beginning(body))
        raise Unparsable(f"The body is {first.detail}.")
    return text


def _is_text(request: web.Request, body: bytes) -> bool:
    """Whether a JSON string can hold the body."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in body and is_utf8(request)
