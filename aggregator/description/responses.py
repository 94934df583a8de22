"""The parts that the description of every call's answers is made of; the names are OpenAPI's."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from aggregator.description.schemas import ProblemSchema
from aggregator.web.answer import JSON
from aggregator.web.problems import PROBLEM

Told = dict[str, Any]

HEADERS: Mapping[str, Told] = {
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
    "Accept-Post": {
        "description": "The media types that are read.",
        "schema": {"type": "string"},
    },
    "Accept-Encoding": {
        "description": "The encodings that are read, where the body is in another one.",
        "schema": {"type": "string"},
    },
}


def response(meaning: str, forms: Mapping[str, Any] | None = None, *headers: str) -> Told:
    """An answer: what its body is by media type, and the headers it may have."""
    content = {media_type: {"schema": schema} for media_type, schema in (forms or {}).items()}
    told: Told = {"description": meaning}
    if content:
        told["content"] = content
    if headers:
        told["headers"] = {name: name for name in headers}
    return told


def problem(meaning: str, *headers: str, schema: type[Schema] = ProblemSchema) -> Told:
    """A problem, and the headers it may have."""
    return response(meaning, {PROBLEM: schema}, *headers)


PROBLEMS: Mapping[str, Told] = {
    "400": problem("The body or an argument cannot be read as what it claims to be."),
    "403": problem("Sent by a page of an origin that is not listed."),
    "404": problem("Nothing is there."),
    "406": problem("There is nothing in a form that the request accepts."),
    "408": problem("The body did not arrive in time."),
    "410": problem("Events from there on are kept no more."),
    "413": problem("More events or bytes than are allowed."),
    "415": problem(
        "A media type, charset or encoding that is not read.", "Accept-Post", "Accept-Encoding"
    ),
    "500": problem("A stage, or the service, is at fault; nothing was stored."),
    "503": problem("Full, stopping, or the store failed: try again.", "Retry-After"),
}
"""Those that mean the same wherever they are answered, by their status."""


def by_status(found: Mapping[int, Told], *problems: int) -> Told:
    """The answers of a call by their status; each call may also fail."""
    told = {str(status): one for status, one in found.items()}
    return {**told, **{str(status): str(status) for status in (*problems, 500, 503)}}


def verdicts(
    envelope: type[Schema], refusal: type[Schema], *headers: str, is_one: bool = False
) -> dict[int, Told]:
    """The answers of a call that receives events, or only one."""
    some = {207: response("Some events were refused, as results say.", {JSON: envelope}, *headers)}
    return {
        200: response("No event was refused.", {JSON: envelope}, *headers),
        **({} if is_one else some),
        409: problem("Each event refused is a conflict.", *headers, schema=refusal),
        422: problem("All events were refused.", *headers, schema=refusal),
    }
