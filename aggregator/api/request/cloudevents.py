"""Reads a CloudEvent 1.0, in the structured mode (JSON) or the binary mode of HTTP.

`type`, `id`, `source` and `time` are an event's topic, event_id, source and timestamp; `data` or
`data_base64` is its payload; everything else is kept beside it, spelled as it came.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from aggregator.api.request import splitting, strict_json
from aggregator.api.request.media_type import check_json_charset, header_text, is_utf8
from aggregator.api.request.parsed_event import OWN, EventParser, ParsedEvent, RejectedEvent
from aggregator.api.request.strict_json import Place
from aggregator.core.cloudevents import is_base64
from aggregator.core.identity import PayloadKind
from aggregator.errors import Unparsable

_QUOTES = 2  # around the name of a member, or a string
_NULL = b"null"

_LARGE = 65_536  # bytes; what is larger is no attribute that is taken, and is not looked into


class _Members(msgspec.Struct):
    """The members of which something is asked before the event is validated."""

    specversion: str
    type: str
    id: str
    source: str
    time: str | None = None
    data_base64: str | None = None


class _FormMembers(msgspec.Struct):
    """The members that tell the form of an event."""

    specversion: msgspec.Raw | UnsetType = UNSET
    event_id: msgspec.Raw | UnsetType = UNSET


_typed = msgspec.json.Decoder(_Members)
_spelled = msgspec.json.Decoder(dict[str, msgspec.Raw])
_form = msgspec.json.Decoder(_FormMembers)
_encode = msgspec.json.Encoder().encode


class _Wrong(Exception):
    """It has not the shape of a CloudEvent."""


_DECLINED = (_Wrong, *strict_json.UNREADABLE)


class _Reading:
    """Reads CloudEvents in the structured mode, and whether they are JSON that is taken."""

    def __init__(self) -> None:
        self._values: list[bytes] = []
        self._quotes = 0
        self._is_in_doubt = False

    def read(self, raw: bytes) -> ParsedEvent:
        """One event; a member that is null is absent, unless it is `data`. Raises _DECLINED."""
        event = _typed.decode(raw)
        spelled = _spelled.decode(raw)
        names = len(spelled)
        data = bytes(spelled.pop("data", b""))
        del spelled["type"], spelled["id"], spelled["source"]
        spelled.pop("time", None)
        spelled.pop("data_base64", None)
        attributes = _encode(spelled)
        if b"\\" in attributes and any('"' in name for name in spelled):
            self._is_in_doubt = True  # such a mark may stand in `attributes` and not in `raw`
        self._values += data, attributes
        texts = 3 + (event.time is not None) + (event.data_base64 is not None)
        self._quotes += _QUOTES * (names - len(spelled) + texts)
        if _NULL in attributes:
            there = {name: value for name, value in spelled.items() if bytes(value) != _NULL}
            attributes = _encode(there)
        if event.time == "":
            raise _Wrong("The time of a CloudEvent is a timestamp, if it has one.")
        kind, payload = _content(event.data_base64, data)
        return ParsedEvent(
            event.type, event.id, event.time or "", event.source, payload, kind, attributes
        )

    def is_surely_taken(self, text: bytes) -> bool:
        """Whether the text, which holds the events and nothing else, is JSON that is taken."""
        return not self._is_in_doubt and strict_json.is_surely_taken(
            text, self._values, self._quotes
        )


def _content(encoded: str | None, data: bytes) -> tuple[PayloadKind, bytes]:
    """The payload; `data` is empty where there is none. Raises _Wrong."""
    if encoded is None:
        return (PayloadKind.JSON, data) if data else (PayloadKind.NOTHING, b"")
    if data not in (b"", _NULL):
        raise _Wrong("A CloudEvent has data or data_base64, not both.")
    if not is_base64(encoded):
        raise _Wrong("The data_base64 of a CloudEvent is base64.")
    return PayloadKind.BYTES, base64.b64decode(encoded)


def _parse(raw: bytes, begin: Place) -> ParsedEvent:
    """One event in the structured mode. Raises RejectedEvent."""
    reading = _Reading()
    try:
        event = reading.read(raw)
        if reading.is_surely_taken(raw):
            return event
        if faults := strict_json.faults(raw, begin):
            raise RejectedEvent.of_json(faults)
        _check_values(raw)
    except _DECLINED as error:
        raise RejectedEvent.explained(raw, begin, str(error)) from error
    return event


def _parse_together(raws: Sequence[bytes]) -> list[ParsedEvent]:
    """The same for many; none where any of them is in doubt."""
    reading = _Reading()
    try:
        parsed = [reading.read(raw) for raw in raws]
        return parsed if reading.is_surely_taken(b",".join(raws)) else []
    except _DECLINED:
        return []


def _check_values(raw: bytes) -> None:
    """Raise what msgspec does if it cannot read one: a number of too many digits, say."""
    for name, value in _spelled.decode(raw).items():
        spelled = bytes(value)
        is_any = spelled[:1] in (b"{", b"[") and (name == "data" or len(spelled) > _LARGE)
        if not is_any:
            msgspec.json.decode(spelled)


CLOUD = EventParser(
    _parse,
    _parse_together,
    b"{}",
    "type",
    "id",
    "Several are application/cloudevents-batch+json, an array.",
)


def form_of(raw: bytes) -> EventParser:
    """The form of an event that claims to be JSON, and no more.

    `specversion` tells a CloudEvent, which must have it and which no plain event has. `event_id`,
    which every plain event must have, is no name of an attribute: so no event is both.
    """
    if b'"specversion"' not in raw:
        return OWN
    try:
        members = _form.decode(raw)
    except strict_json.UNREADABLE:
        names = {name for name, _ in splitting.members(raw)}
        return CLOUD if "specversion" in names and "event_id" not in names else OWN
    is_cloud = members.specversion is not UNSET and members.event_id is UNSET
    return CLOUD if is_cloud else OWN


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
