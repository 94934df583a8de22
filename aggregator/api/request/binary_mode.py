"""Turns a CloudEvent in the binary mode of HTTP into the JSON text of the structured mode.

So there is one way to read a CloudEvent, and the same one sent in either mode is the same event.
"""

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from multidict import CIMultiDictProxy, istr

from aggregator.api.request import charset, splitting, strict_json
from aggregator.errors import Unparsable

_PREFIX = "ce-"
_VERSION, _ID, _TYPE, _SOURCE = map(istr, ("ce-specversion", "ce-id", "ce-type", "ce-source"))
_ELSEWHERE = {
    "data": "the body is its data",
    "data_base64": "the body is its data",
    "datacontenttype": "Content-Type says what its data is",
}
_JSON = re.compile(r"[^/]+/(?:[^/]+\+)?json")
_TEXT = re.compile(r"text/[^/]+|[^/]+/(?:[^/]+\+)?xml")
_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def is_meant(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the headers are those of a CloudEvent; that of its data's type may be any."""
    return _ID in headers or _TYPE in headers or _SOURCE in headers or _VERSION in headers


def structured(request: web.Request, body: bytes) -> bytes:
    """The event as JSON, as long as its parts; a header given twice is a member given twice.

    Raises Unparsable where a header is not UTF-8 or says what is said elsewhere, or the body is not
    the JSON that it claims to be; Unsupported where that is in another charset.
    """
    members = [*_attributes(request.headers.items()), *_data(request, body)]
    spelled = (b"%b:%b" % (msgspec.json.encode(name), text) for name, text in members)
    return b"{" + b",".join(spelled) + b"}"


def _attributes(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    for header, value in headers:
        name = header.lower().removeprefix(_PREFIX)
        if header.lower() == "content-type" and value:
            yield "datacontenttype", _text(header, _bytes(value))
        elif name in _ELSEWHERE and name != header.lower():
            raise Unparsable(f"{header} is no header of a CloudEvent: {_ELSEWHERE[name]}.")
        elif name != header.lower():
            yield name, _text(header, unquote_to_bytes(_bytes(_unquoted(value))))


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return _ESCAPED.sub(r"\1", quoted.group(1)) if quoted else value


def _bytes(value: str) -> bytes:
    """The header's value as it came: bytes that are not UTF-8 are lone surrogates in it."""
    return value.encode(errors="surrogateescape")


def _text(header: str, value: bytes) -> bytes:
    try:
        return msgspec.json.encode(value.decode())
    except UnicodeDecodeError as error:
        raise Unparsable(f"The header {header} is not UTF-8: {error.reason}.") from error


def _data(request: web.Request, body: bytes) -> Iterator[tuple[str, bytes]]:
    """The body as a member, in the form that its media type asks for; none if there is no body."""
    if not body:
        return
    has_type = bool(request.headers.get("Content-Type"))
    if has_type and _JSON.fullmatch(request.content_type):
        charset.check_json(request)
        yield "data", _json(body)
    elif not has_type and _is_json(body):
        yield "data", splitting.trimmed(body)
    elif has_type and _TEXT.fullmatch(request.content_type) and _is_text(request, body):
        yield "data", msgspec.json.encode(body.decode())
    else:
        yield "data_base64", msgspec.json.encode(body)


def _json(body: bytes) -> bytes:
    """The body, which is one JSON value: anything else could pass for more members."""
    text = splitting.trimmed(body)
    if not _is_json(text):
        raise Unparsable(f"The body is {strict_json.faults(text)[0].detail}.")
    return text


def _is_json(body: bytes) -> bool:
    """Whether it is, by the grammar: what else is wrong with it is a fault of the event."""
    try:
        json.loads(splitting.trimmed(body).decode(), parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return False
    return True


def _is_text(request: web.Request, body: bytes) -> bool:
    """Whether a JSON string can hold the body."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in body and charset.is_utf8(request)
