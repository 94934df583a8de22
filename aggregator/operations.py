"""Every call that the service answers, as the description of the API tells it.

What a call takes stands in the schemas that it is parsed with, and what it does in the docstring
of its handler: here is what ties them together. The names are those of OpenAPI.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import Schema, fields, validate

from aggregator import schemas
from aggregator.arguments import described
from aggregator.docs_page import ASSETS
from aggregator.quarantine_page import QuarantineQuerySchema
from aggregator.query import PageSchema, PickSchema, StreamSchema, TopicsSchema

JSON = "application/json"
NDJSON = "application/x-ndjson"
CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"
PROBLEM = "application/problem+json"

_LARGEST_ID = 10**18 - 1

TAGS = ("publish", "read", "state", "quarantine", "description")
"""What the calls are for, in the order in which they are shown."""

Told = dict[str, Any]


class EventPathSchema(Schema):
    """Where one event is."""

    topic = fields.String(
        required=True,
        validate=validate.Length(1),
        metadata={**described("As it was sent."), "example": "logins"},
    )
    event_id = fields.String(
        required=True,
        validate=validate.Length(1),
        metadata={**described("As it was sent."), "example": "1"},
    )


class EntryPathSchema(Schema):
    """Where one event in quarantine is."""

    id = fields.Integer(
        required=True,
        validate=validate.Range(0, _LARGEST_ID),
        metadata={**described("Its id in quarantine."), "example": 1},
    )


class AssetPathSchema(Schema):
    """Where a part of the page is."""

    asset = fields.String(
        required=True, validate=validate.OneOf(ASSETS), metadata=described("Its name.")
    )


class PublishHeadersSchema(Schema):
    """What a publisher prefers."""

    prefer = fields.String(
        data_key="Prefer",
        metadata=described(
            "`handling=strict`: all events or none. `return=minimal`: the counts, "
            "and only the results of events that were refused. `respond-async`: answer 202 "
            "before the events are stored (RFC 7240)."
        ),
    )


class ConditionSchema(Schema):
    """What the client has already."""

    if_none_match = fields.String(
        data_key="If-None-Match",
        metadata=described("The ETag of an answer that the client has."),
    )


class ResumeSchema(Schema):
    """Where the client was when it lost its connection."""

    last_event_id = fields.Integer(
        data_key="Last-Event-ID",
        validate=validate.Range(0),
        metadata=described("The seq after which to go on; it wins over `after`."),
    )


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
}


def _headers(names: Sequence[str]) -> Told:
    return {"headers": {name: name for name in names}} if names else {}


def _answer(meaning: str, schema: Any = None, *headers: str, media_type: str = JSON) -> Told:
    content = {"content": {media_type: {"schema": schema}}} if schema else {}
    return {"description": meaning, **content, **_headers(headers)}


def _problem(meaning: str, *headers: str, schema: type[Schema] = schemas.ProblemSchema) -> Told:
    return _answer(meaning, schema, *headers, media_type=PROBLEM)


PROBLEMS: Mapping[str, Told] = {
    "400": _problem("The body or an argument cannot be read as what it claims to be."),
    "404": _problem("Nothing is there."),
    "406": _problem("There is nothing in a form that the request accepts."),
    "408": _problem("The body did not arrive in time."),
    "410": _problem("Events from there on are kept no more."),
    "413": _problem("More events or bytes than are allowed."),
    "415": _problem("A media type, charset or encoding that is not read.", "Accept-Post"),
    "500": _problem("A stage, or the service, is at fault; nothing was stored."),
    "503": _problem("Full, stopping, or the store failed: try again.", "Retry-After"),
}
"""Those that mean the same wherever they are answered, by their status."""


def _answers(*problems: int, **answers: Told) -> Told:
    """By status; each call may also fail."""
    told = {status.removeprefix("_"): answer for status, answer in answers.items()}
    return {**told, **{str(status): str(status) for status in (*problems, 500, 503)}}


def _verdicts(envelope: type[Schema], refusal: type[Schema], *headers: str) -> dict[str, Told]:
    return {
        "_200": _answer("No event was refused.", envelope, *headers),
        "_207": _answer("Some events were refused, as results say.", envelope, *headers),
        "_409": _problem("Each event refused is a conflict.", *headers, schema=refusal),
        "_422": _problem("All events were refused.", *headers, schema=refusal),
    }


def _in(**places: type[Schema]) -> list[Told]:
    """The parameters, by their place."""
    return [{"in": place, "schema": schema} for place, schema in places.items()]


_LINES = {"type": "string", "description": "One JSON object a line."}
_CLOUD_EVENT = {"type": "object", "description": "A CloudEvent 1.0."}
_FORMS = {
    JSON: {"schema": schemas.PageSchema},
    NDJSON: {"schema": {**_LINES, "description": "All events that match, one a line."}},
    CLOUD_EVENTS: {"schema": {"type": "array", "items": _CLOUD_EVENT}},
}
_NOT_MODIFIED = _answer("The client has it already.", None, "ETag")
_CHOICES = _answer("Several events have that topic and id.", schemas.ChoicesSchema, "Link")
_RELEASED = _verdicts(schemas.ReleaseSchema, schemas.ReleaseRefusalSchema)
_PAGE = {"type": "string"}

OPERATIONS: Mapping[str, Told] = {
    "POST /publish": {
        "operationId": "publish",
        "tags": ["publish"],
        "parameters": _in(header=PublishHeadersSchema),
        "responses": _answers(
            400,
            408,
            413,
            415,
            **_verdicts(schemas.EnvelopeSchema, schemas.RefusalSchema, "Preference-Applied"),
            _202=_answer(
                "Accepted; what becomes of the events is not waited for.",
                schemas.LaterSchema,
                "Preference-Applied",
            ),
        ),
    },
    "GET /events": {
        "operationId": "listEvents",
        "tags": ["read"],
        "parameters": _in(query=PageSchema),
        "responses": _answers(
            400,
            406,
            _200={
                "description": "A page, or all of them.",
                "content": _FORMS,
                **_headers(["Link"]),
            },
        ),
    },
    "GET /events/stream": {
        "operationId": "followEvents",
        "tags": ["read"],
        "parameters": _in(query=StreamSchema, header=ResumeSchema),
        "responses": _answers(
            400,
            410,
            _200=_answer("Server-sent events, without end.", _PAGE, media_type="text/event-stream"),
        ),
    },
    "GET /events/{topic}/{event_id}": {
        "operationId": "readEvent",
        "tags": ["read"],
        "parameters": _in(path=EventPathSchema, query=PickSchema, header=ConditionSchema),
        "responses": _answers(
            400,
            404,
            406,
            _200={
                "description": "The event.",
                "content": {
                    JSON: {"schema": schemas.StoredEventSchema},
                    CLOUD_EVENT: {"schema": _CLOUD_EVENT},
                },
                **_headers(["ETag"]),
            },
            _300=_CHOICES,
            _304=_NOT_MODIFIED,
        ),
    },
    "GET /events/{topic}/{event_id}/explain": {
        "operationId": "explainEvent",
        "tags": ["read"],
        "parameters": _in(path=EventPathSchema, query=PickSchema),
        "responses": _answers(
            400,
            404,
            _200=_answer("What is known of it.", schemas.ExplanationSchema),
            _300=_CHOICES,
        ),
    },
    "GET /topics": {
        "operationId": "listTopics",
        "tags": ["read"],
        "parameters": _in(query=TopicsSchema),
        "responses": _answers(400, _200=_answer("A page.", schemas.TopicsSchema, "Link")),
    },
    "GET /quarantine": {
        "operationId": "listQuarantined",
        "tags": ["quarantine"],
        "parameters": _in(query=QuarantineQuerySchema),
        "responses": _answers(400, _200=_answer("A page.", schemas.QuarantinePageSchema, "Link")),
    },
    "DELETE /quarantine": {
        "operationId": "dropSome",
        "tags": ["quarantine"],
        "parameters": _in(query=QuarantineQuerySchema),
        "responses": _answers(400, _200=_answer("They are gone.", schemas.DroppedSchema)),
    },
    "POST /quarantine/release": {
        "operationId": "releaseSome",
        "tags": ["quarantine"],
        "parameters": _in(query=QuarantineQuerySchema),
        "responses": _answers(400, **_RELEASED),
    },
    "GET /quarantine/{id}": {
        "operationId": "readQuarantined",
        "tags": ["quarantine"],
        "parameters": _in(path=EntryPathSchema),
        "responses": _answers(404, _200=_answer("The event.", schemas.QuarantinedSchema)),
    },
    "DELETE /quarantine/{id}": {
        "operationId": "dropOne",
        "tags": ["quarantine"],
        "parameters": _in(path=EntryPathSchema),
        "responses": _answers(404, _204=_answer("It is gone.")),
    },
    "POST /quarantine/{id}/release": {
        "operationId": "releaseOne",
        "tags": ["quarantine"],
        "parameters": _in(path=EntryPathSchema),
        "responses": _answers(
            404, **{name: _RELEASED[name] for name in _RELEASED if name != "_207"}
        ),
    },
    "GET /stats": {
        "operationId": "readStats",
        "tags": ["state"],
        "responses": _answers(_200=_answer("The numbers.", schemas.StatsSchema)),
    },
    "GET /healthz": {
        "operationId": "isAlive",
        "tags": ["state"],
        "responses": _answers(_200=_answer("It is.", schemas.StatusSchema)),
    },
    "GET /readyz": {
        "operationId": "isReady",
        "tags": ["state"],
        "responses": _answers(_200=_answer("It is.", schemas.StatusSchema)),
    },
    "GET /openapi.json": {
        "operationId": "readDescription",
        "tags": ["description"],
        "parameters": _in(header=ConditionSchema),
        "responses": _answers(
            _200=_answer("OpenAPI 3.1.", {"type": "object"}, "ETag"), _304=_NOT_MODIFIED
        ),
    },
    "GET /docs": {
        "operationId": "showDescription",
        "tags": ["description"],
        "parameters": _in(header=ConditionSchema),
        "responses": _answers(
            404,
            _200=_answer("A page.", _PAGE, "ETag", media_type="text/html"),
            _304=_NOT_MODIFIED,
        ),
    },
    "GET /docs/{asset}": {
        "operationId": "readAsset",
        "tags": ["description"],
        "parameters": _in(path=AssetPathSchema, header=ConditionSchema),
        "responses": _answers(
            404,
            _200=_answer("A part of it.", _PAGE, "ETag", media_type="*/*"),
            _304=_NOT_MODIFIED,
        ),
    },
}
"""By method and path."""
