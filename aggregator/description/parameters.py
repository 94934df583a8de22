"""What calls take in their paths and headers, as schemas; that of their queries is elsewhere."""

from marshmallow import Schema, fields, validate

from aggregator.api.request.body import ENCODINGS
from aggregator.description.docs_page import ASSETS
from aggregator.web.arguments import LARGEST, LARGEST_PAGE, Whole, described
from aggregator.web.query import PageSchema

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

    limit = Whole(
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
