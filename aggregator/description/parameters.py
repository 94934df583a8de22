"""What calls take in their paths and headers, as schemas; that of their queries is elsewhere."""

from marshmallow import Schema, fields, validate

from aggregator.description.docs_page import ASSETS
from aggregator.web.arguments import described

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
