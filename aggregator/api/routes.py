"""Every call that the service answers, as the description of the API tells it."""

from collections.abc import Mapping

from marshmallow import Schema, fields, validate

from aggregator.api import schemas
from aggregator.api.docs_page import ASSETS
from aggregator.api.quarantine import QuarantineQuerySchema
from aggregator.api.query import (
    LARGEST,
    LARGEST_PAGE,
    EventSelectorSchema,
    PageSchema,
    StreamSchema,
    TopicsSchema,
    WholeNumber,
    described,
)
from aggregator.api.responses import CLOUD_EVENT, CLOUD_EVENTS, JSON
from aggregator.api.schemas import Told, by_status, response, verdicts
from aggregator.receiving.inflate import ENCODINGS
from aggregator.receiving.media_type import NDJSON

_LARGEST_ID = 10**18 - 1


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


def _attribute(name: str, description: str) -> fields.String:
    return fields.String(data_key=f"ce-{name}", metadata=described(description))


class PublishHeadersSchema(Schema):
    """What a publisher prefers, how the body is packed, and a CloudEvent in the binary mode."""

    prefer = fields.String(
        data_key="Prefer",
        metadata=described(
            "`handling=strict`: all events or none. `return=minimal`: the counts, "
            "and only the results of events that were refused. `respond-async`: answer 202 "
            "before the events are stored (RFC 7240)."
        ),
    )

    content_encoding = fields.String(
        data_key="Content-Encoding",
        validate=validate.OneOf([*ENCODINGS, "identity"]),
        metadata=described("How the body is compressed; not at all without it."),
    )
    ce_specversion = _attribute(
        "specversion", "`1.0`. It, `ce-id`, `ce-source` and `ce-type` go together: the binary mode."
    )
    ce_id = _attribute("id", "The id of a CloudEvent.")
    ce_source = _attribute("source", "Its source, a URI reference.")
    ce_type = _attribute("type", "Its type, which is the topic.")
    ce_time = _attribute("time", "Its time, in the form of RFC 3339.")
    ce_subject = _attribute("subject", "Its subject. Extensions are sent in the same way.")
    ce_dataschema = _attribute("dataschema", "A URI with a scheme.")


class EventsQuerySchema(PageSchema):
    """Which events to read, in which order, and how many; how many can be depends on the form."""

    limit = WholeNumber(
        validate=validate.Range(1, LARGEST),
        metadata=described(
            f"The most events of a page, 100 by default and {LARGEST_PAGE:,} at most; "
            "where NDJSON is asked for, the most of all, and any number."
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


TAGS = ("publish", "read", "state", "quarantine", "description")
"""What the calls are for, in the order in which they are shown."""

_TEXT = {"type": "string"}
_CLOUD_EVENT = {"type": "object", "description": "A CloudEvent 1.0."}
_PAGES = {
    JSON: schemas.EventPageSchema,
    **{form: {**_TEXT, "description": "All events that match, one a line."} for form in NDJSON},
    CLOUD_EVENTS: {"type": "array", "items": _CLOUD_EVENT},
}
_EVENT = {JSON: schemas.StoredEventSchema, CLOUD_EVENT: _CLOUD_EVENT}
_STATUS = response("It is.", {JSON: schemas.StatusSchema})
_NOT_MODIFIED = response("The client has it already.", None, "ETag")
_CHOICES = response("Several events have that topic and id.", {JSON: schemas.ChoicesSchema}, "Link")
_PUBLISHED = verdicts(schemas.EnvelopeSchema, schemas.RefusalSchema, "Preference-Applied")
_ACCEPTED = response(
    "Accepted; what becomes of the events is not waited for.",
    {JSON: schemas.LaterSchema},
    "Preference-Applied",
)
_RELEASED = schemas.ReleaseSchema, schemas.ReleaseRefusalSchema


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
        query=EventSelectorSchema,
        header=ConditionSchema,
    ),
    "GET /events/{topic}/{event_id}/explain": _call(
        "explainEvent",
        "read",
        by_status(
            {
                200: response("What is known of it.", {JSON: schemas.ExplanationSchema}),
                300: _CHOICES,
            },
            400,
            404,
        ),
        path=EventPathSchema,
        query=EventSelectorSchema,
    ),
    "GET /topics": _call(
        "listTopics",
        "read",
        by_status({200: response("A page.", {JSON: schemas.TopicPageSchema}, "Link")}, 400),
        query=TopicsSchema,
    ),
    "GET /quarantine": _call(
        "listQuarantined",
        "quarantine",
        by_status({200: response("A page.", {JSON: schemas.QuarantinePageSchema}, "Link")}, 400),
        query=QuarantineQuerySchema,
    ),
    "DELETE /quarantine": _call(
        "dropSome",
        "quarantine",
        by_status({200: response("They are gone.", {JSON: schemas.DroppedSchema})}, 400, 403),
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
        by_status({200: response("The event.", {JSON: schemas.QuarantinedSchema})}, 404),
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
        by_status({200: response("The numbers.", {JSON: schemas.StatsSchema})}),
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
