"""Every call that the service answers, as the description of the API tells it.

What a call takes stands in the schemas that it is parsed with, and what it does in the docstring
of its handler: here is what ties them together. The names are those of OpenAPI.
"""

from collections.abc import Mapping

from marshmallow import Schema

from aggregator.api.request.media_type import NDJSON
from aggregator.description import quarantine_schemas, reading_schemas, verdict_schemas
from aggregator.description.parameters import (
    AssetPathSchema,
    ConditionSchema,
    EntryPathSchema,
    EventPathSchema,
    EventsQuerySchema,
    PublishHeadersSchema,
    ResumeSchema,
)
from aggregator.description.responses import Told, by_status, response, verdicts
from aggregator.web.answer import CLOUD_EVENT, CLOUD_EVENTS, JSON
from aggregator.web.quarantine_page import QuarantineQuerySchema
from aggregator.web.query import PickSchema, StreamSchema, TopicsSchema

TAGS = ("publish", "read", "state", "quarantine", "description")
"""What the calls are for, in the order in which they are shown."""

_TEXT = {"type": "string"}
_CLOUD_EVENT = {"type": "object", "description": "A CloudEvent 1.0."}
_PAGES = {
    JSON: reading_schemas.EventPageSchema,
    **{form: {**_TEXT, "description": "All events that match, one a line."} for form in NDJSON},
    CLOUD_EVENTS: {"type": "array", "items": _CLOUD_EVENT},
}
_EVENT = {JSON: reading_schemas.StoredEventSchema, CLOUD_EVENT: _CLOUD_EVENT}
_STATUS = response("It is.", {JSON: reading_schemas.StatusSchema})
_NOT_MODIFIED = response("The client has it already.", None, "ETag")
_CHOICES = response(
    "Several events have that topic and id.", {JSON: reading_schemas.ChoicesSchema}, "Link"
)
_PUBLISHED = verdicts(
    verdict_schemas.EnvelopeSchema, verdict_schemas.RefusalSchema, "Preference-Applied"
)
_ACCEPTED = response(
    "Accepted; what becomes of the events is not waited for.",
    {JSON: verdict_schemas.LaterSchema},
    "Preference-Applied",
)
_RELEASED = verdict_schemas.ReleaseSchema, verdict_schemas.ReleaseRefusalSchema


def _call(name: str, tag: str, responses: Told, **parameters: type[Schema]) -> Told:
    """A call; the schemas of its parameters by where those stand: path, query or header."""
    places = [{"in": place, "schema": schema} for place, schema in parameters.items()]
    told = {"operationId": name, "tags": [tag], "responses": responses}
    return {**told, "parameters": places} if places else told


OPERATIONS: Mapping[str, Told] = {
    "POST /publish": _call(
        "publish",
        "publish",
        by_status({**_PUBLISHED, 202: _ACCEPTED}, 400, 403, 408, 413, 415),
        header=PublishHeadersSchema,
    ),
    "GET /events": _call(
        "listEvents",
        "read",
        by_status({200: response("A page, or all of them.", _PAGES, "Link")}, 400, 406),
        query=EventsQuerySchema,
    ),
    "GET /events/stream": _call(
        "followEvents",
        "read",
        by_status(
            {200: response("Server-sent events, without end.", {"text/event-stream": _TEXT})},
            400,
            410,
        ),
        query=StreamSchema,
        header=ResumeSchema,
    ),
    "GET /events/{topic}/{event_id}": _call(
        "readEvent",
        "read",
        by_status(
            {200: response("The event.", _EVENT, "ETag"), 300: _CHOICES, 304: _NOT_MODIFIED},
            400,
            404,
            406,
        ),
        path=EventPathSchema,
        query=PickSchema,
        header=ConditionSchema,
    ),
    "GET /events/{topic}/{event_id}/explain": _call(
        "explainEvent",
        "read",
        by_status(
            {
                200: response("What is known of it.", {JSON: reading_schemas.ExplanationSchema}),
                300: _CHOICES,
            },
            400,
            404,
        ),
        path=EventPathSchema,
        query=PickSchema,
    ),
    "GET /topics": _call(
        "listTopics",
        "read",
        by_status({200: response("A page.", {JSON: reading_schemas.TopicPageSchema}, "Link")}, 400),
        query=TopicsSchema,
    ),
    "GET /quarantine": _call(
        "listQuarantined",
        "quarantine",
        by_status(
            {200: response("A page.", {JSON: quarantine_schemas.QuarantinePageSchema}, "Link")}, 400
        ),
        query=QuarantineQuerySchema,
    ),
    "DELETE /quarantine": _call(
        "dropSome",
        "quarantine",
        by_status(
            {200: response("They are gone.", {JSON: quarantine_schemas.DroppedSchema})}, 400, 403
        ),
        query=QuarantineQuerySchema,
    ),
    "POST /quarantine/release": _call(
        "releaseSome",
        "quarantine",
        by_status(verdicts(*_RELEASED), 400, 403),
        query=QuarantineQuerySchema,
    ),
    "GET /quarantine/{id}": _call(
        "readQuarantined",
        "quarantine",
        by_status({200: response("The event.", {JSON: quarantine_schemas.QuarantinedSchema})}, 404),
        path=EntryPathSchema,
    ),
    "DELETE /quarantine/{id}": _call(
        "dropOne",
        "quarantine",
        by_status({204: response("It is gone.")}, 403, 404),
        path=EntryPathSchema,
    ),
    "POST /quarantine/{id}/release": _call(
        "releaseOne",
        "quarantine",
        by_status(verdicts(*_RELEASED, is_one=True), 403, 404),
        path=EntryPathSchema,
    ),
    "GET /stats": _call(
        "readStats",
        "state",
        by_status({200: response("The numbers.", {JSON: reading_schemas.StatsSchema})}),
    ),
    "GET /healthz": _call("isAlive", "state", by_status({200: _STATUS})),
    "GET /readyz": _call("isReady", "state", by_status({200: _STATUS})),
    "GET /openapi.json": _call(
        "readDescription",
        "description",
        by_status(
            {200: response("OpenAPI 3.1.", {JSON: {"type": "object"}}, "ETag"), 304: _NOT_MODIFIED}
        ),
        header=ConditionSchema,
    ),
    "GET /docs": _call(
        "showDescription",
        "description",
        by_status(
            {200: response("A page.", {"text/html": _TEXT}, "ETag"), 304: _NOT_MODIFIED}, 404
        ),
        header=ConditionSchema,
    ),
    "GET /docs/{asset}": _call(
        "readAsset",
        "description",
        by_status({200: response("A part of it.", {"*/*": {}}, "ETag"), 304: _NOT_MODIFIED}, 404),
        path=AssetPathSchema,
        header=ConditionSchema,
    ),
}
"""By method and path."""
