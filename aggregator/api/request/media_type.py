"""The format and the charset that a publish request claims for its body."""

import re
from enum import Enum

from aiohttp import web
from multidict import CIMultiDictProxy, istr

from aggregator.core.quoting import quoted
from aggregator.errors import Unsupported


class Format(Enum):
    """What the body holds; in the binary mode of CloudEvents, together with the headers."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"
    CLOUD_EVENT = "application/cloudevents+json"
    CLOUD_BATCH = "application/cloudevents-batch+json"
    CLOUD_BINARY = "any"


NDJSON = (Format.NDJSON.value, "application/ndjson", "application/jsonl")
"""The names of newline-delimited JSON, the one to prefer first."""

_FORMATS = {
    Format.JSON.value: Format.JSON,
    **dict.fromkeys(NDJSON, Format.NDJSON),
    Format.CLOUD_EVENT.value: Format.CLOUD_EVENT,
    Format.CLOUD_BATCH.value: Format.CLOUD_BATCH,
}
ACCEPTED = ", ".join(_FORMATS)
"""What `Accept-Post` says."""
_CONTENT_TYPE = istr("Content-Type")
_USUAL = Format.JSON.value
_LONGEST = 500  # characters; its parser takes time by their square
_CLOUD_EVENTS = "application/cloudevents"
_VERSION, _ID, _TYPE, _SOURCE = map(istr, ("ce-specversion", "ce-id", "ce-type", "ce-source"))
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


def format_of(request: web.Request) -> Format:
    """The format of the body. Raises Unsupported if it is none that is read."""
    said = request.headers.get(_CONTENT_TYPE, "")
    if said == _USUAL and not is_binary_mode(request.headers):
        return Format.JSON
    if len(said) > _LONGEST:
        raise Unsupported("The Content-Type is too long to be one.")
    claimed = request.content_type if _CONTENT_TYPE in request.headers else ""
    if not claimed.startswith(_CLOUD_EVENTS) and is_binary_mode(request.headers):
        return Format.CLOUD_BINARY
    if _CONTENT_TYPE not in request.headers:
        return Format.JSON
    check_json_charset(request)
    if claimed not in _FORMATS:
        raise Unsupported(
            f"A body of type {quoted(said)} is not read. Send {ACCEPTED}: "
            "with curl, add -H 'Content-Type: application/json'."
        )
    return _FORMATS[claimed]


def is_binary_mode(headers: CIMultiDictProxy[str]) -> bool:
    """Whether the headers are those of a CloudEvent, whose data may have any media type."""
    return _ID in headers or _TYPE in headers or _SOURCE in headers or _VERSION in headers


def header_text(value: str) -> str:
    """The value of a header, in whichever of the usual encodings it came.

    aiohttp decodes UTF-8, and leaves other bytes as lone surrogates: those are Latin-1, which older
    clients send, and in which every byte is a character.
    """
    if _NOT_UTF8.search(value):
        return value.encode(errors="surrogateescape").decode("latin-1")
    return value


def is_utf8(request: web.Request) -> bool:
    """Whether the body claims to be UTF-8, or nothing else."""
    return (request.charset or "utf-8").lower() in _UTF8


def check_json_charset(request: web.Request) -> None:
    """Raise Unsupported where a body of JSON claims to be in another charset."""
    if not is_utf8(request):
        raise Unsupported(
            f"JSON is UTF-8; the charset {quoted(request.charset or '')} is not read."
        )
