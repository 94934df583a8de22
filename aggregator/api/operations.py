"""What operations have in common in the description: answers, problems and headers."""

from collections.abc import Mapping
from typing import Any

from aggregator.api.responses import PROBLEM, Answer, Problem

OpenApi = dict[str, Any]
"""A part of the description."""

HEADERS: Mapping[str, OpenApi] = {
    "Retry-After": {
        "description": "Seconds after which the same request may be sent again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Link": {
        "description": "Where to go on, or the events to choose from (RFC 8288).",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "Changes when the answer does.",
        "schema": {"type": "string"},
    },
    "Preference-Applied": {
        "description": "Which preferences were kept.",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {
        "description": "What is wrong with the token, as RFC 6750 says it.",
        "schema": {"type": "string"},
    },
    "Accept-Post": {
        "description": "The media types that are read.",
        "schema": {"type": "string"},
    },
    "Accept-Encoding": {
        "description": "The encodings that are read, where the body is in another one.",
        "schema": {"type": "string"},
    },
}
"""The headers of answers that are described once."""


def response(meaning: str, bodies: Mapping[str, Any] | None = None, *headers: str) -> OpenApi:
    """An answer: what its body is by media type, and the headers it may have."""
    content = {media_type: {"schema": schema} for media_type, schema in (bodies or {}).items()}
    told: OpenApi = {"description": meaning}
    if content:
        told["content"] = content
    if headers:
        told["headers"] = {name: name for name in headers}
    return told


def problem(meaning: str, *headers: str, members: type[Answer] | None = None) -> OpenApi:
    """A problem, the headers it may have, and the answer whose members are added to it."""
    schema = Problem if members is None else {"allOf": [Problem, members]}
    return response(meaning, {PROBLEM: schema}, *headers)


PROBLEMS: Mapping[str, OpenApi] = {
    "400": problem("The body or an argument cannot be read as what it claims to be."),
    "401": problem("Without a token that is known here.", "WWW-Authenticate"),
    "403": problem("Sent by a page of an origin that is not listed, or with a token not for it."),
    "404": problem("Nothing is there."),
    "406": problem("There is nothing in a form that the request accepts."),
    "408": problem("The body did not arrive in time."),
    "410": problem("Events from there on are kept no more."),
    "413": problem("More events or bytes than are allowed."),
    "415": problem(
        "A media type, charset or encoding that is not read.", "Accept-Post", "Accept-Encoding"
    ),
    "429": problem("Over the client's rate, or too many conflicts: try again.", "Retry-After"),
    "421": problem("Meant for another host than this service."),
    "500": problem("A stage, or the service, is at fault; nothing was stored."),
    "503": problem("Full, stopping, or the store failed: try again.", "Retry-After"),
}
"""The errors that mean the same wherever they are answered, by their status."""
