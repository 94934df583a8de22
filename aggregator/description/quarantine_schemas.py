"""What is answered about events in quarantine, as schemas."""

from marshmallow import fields, validate

from aggregator.description.schemas import (
    AnswerSchema,
    FaultSchema,
    any_json,
    following,
    moment,
    number,
    octets,
    words,
)
from aggregator.store import QuarantineReason


class QuarantinedSchema(AnswerSchema):
    """An event that was not stored and is kept beside."""

    id = number("Under which it can be released or dropped.")
    kept_at = moment("Since when it is kept.")
    reason = fields.String(
        required=True, validate=validate.OneOf([reason.value for reason in QuarantineReason])
    )
    submission = words("The id of the request that it came with.")
    topic = words("Its topic, where it could be read.", allow_none=True)
    event_id = words("Its id, where it could be read.", allow_none=True)
    errors = fields.List(fields.Nested(FaultSchema), required=True)
    format = fields.String(required=True, validate=validate.OneOf(["event", "cloudevents"]))
    body = any_json("The event as it was sent.")
    body_base64 = octets("The same, where that is no JSON that every reader takes.")


class QuarantinePageSchema(AnswerSchema):
    """Some of what is in quarantine."""

    quarantined = fields.List(fields.Nested(QuarantinedSchema), required=True)
    next = following()


class DroppedSchema(AnswerSchema):
    """How many events were removed from quarantine."""

    dropped = number("How many.")
    next = following()
