"""What readers are answered, as schemas."""

from marshmallow import fields

from aggregator.description.schemas import (
    AnswerSchema,
    any_json,
    checksum,
    following,
    moment,
    number,
    octets,
    place,
    words,
)


class StoredEventSchema(AnswerSchema):
    """An event as it is read back."""

    seq = place()
    received_at = moment("When it came.")
    topic = words("As it was sent.")
    event_id = words("As it was sent.")
    timestamp = words("As it was sent; null for a CloudEvent without a time.", allow_none=True)
    source = words("As it was sent.")
    attributes = fields.Dict(metadata={"description": "What else a CloudEvent says of itself."})
    payload = any_json(
        "Byte for byte as it was sent, but for line breaks where the event is one line. "
        "Missing where it came without one; null where it cannot be shown."
    )
    payload_base64 = octets("A payload that is no JSON.")
    damaged = words("Why the payload cannot be shown: it is not what was stored.", required=False)
    emptied = words("Why the payload cannot be shown: it is kept no more.", required=False)


class EventPageSchema(AnswerSchema):
    """Some of the events that match, in order."""

    events = fields.List(fields.Nested(StoredEventSchema), required=True)
    next = following()


class ChoiceSchema(AnswerSchema):
    """One of several events of one topic and id."""

    seq = place()
    source = words("Who sent it.")
    href = words("Where it is.")


class ChoicesSchema(AnswerSchema):
    """The events of one topic and id, where there are several."""

    choices = fields.List(fields.Nested(ChoiceSchema), required=True)
    cut = fields.Boolean(required=True, metadata={"description": "Whether there are more."})


class SeenSchema(AnswerSchema):
    """How often something came, and when."""

    times = number("How often it came.")
    first_seen_at = moment("When it came first.")
    last_seen_at = moment("When it came last.")


class SightingsSchema(SeenSchema):
    """How often the event came from one source."""

    source = words("Who sent it.")
    duplicates = number("With the content that is stored.")
    conflicts = number("With another content.")


class ClashesSchema(SeenSchema):
    """Another content that came under the same key."""

    digest = checksum("The digest of that content.")
    differences = fields.List(words("A JSON pointer into the event."), required=True)
    source = words("Who sent it first.")


class ExplanationSchema(SeenSchema):
    """Everything that is known of the events that came under one key."""

    seq = place()
    topic = words("As it was sent.")
    event_id = words("As it was sent.")
    duplicates = number("How often it came again.")
    conflicts = number("How often another content came under its key.")
    sources = fields.List(fields.Nested(SightingsSchema), required=True)
    sources_cut = fields.Boolean(required=True)
    conflicting = fields.List(fields.Nested(ClashesSchema), required=True)
    conflicting_cut = fields.Boolean(required=True)


class PlaceSchema(AnswerSchema):
    """A stored event, and when it came."""

    seq = place()
    received_at = moment("When it came.")


class TopicSchema(AnswerSchema):
    """A topic with stored events."""

    topic = words("Its name.")
    stored = number("Events stored on it.")
    duplicates = number("Those that came again.")
    conflicts = number("Those that came with another content.")
    first = fields.Nested(PlaceSchema, required=True)
    last = fields.Nested(PlaceSchema, required=True)


class TopicPageSchema(AnswerSchema):
    """Some of the topics, by name."""

    topics = fields.List(fields.Nested(TopicSchema), required=True)
    next = following()


class StatsSchema(AnswerSchema):
    """The numbers of one moment."""

    received_total = number("All events, whatever became of them.")
    unique_processed = number("Stored.")
    duplicate_dropped = number("Duplicates, and conflicts too.")
    conflicts = number("Conflicts.")
    invalid = number("Refused as invalid.")
    filtered = number("Kept out by a stage on purpose.")
    refused = number("Good, but refused with their strict request.")
    failed_async = number("Failed after their publisher was answered 202.")
    quarantined = number("In quarantine now.")
    quarantine_evicted = number("Gone from quarantine because it was full or they were too old.")
    queue_size_current = number("Accepted, and not committed yet.")
    processed_topics = fields.List(words("A topic with stored events."), required=True)
    processed_topics_total = number("How many topics there are.")
    uptime_seconds = fields.Float(required=True)


class StatusSchema(AnswerSchema):
    """How the service is."""

    status = words("In a word.")
