"""What the service answers, as schemas: for the description of the API, and for tests.

Answers are not made by these, which would take too long; that they are as described is tested.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate


def _count(description: str, **more: Any) -> fields.Integer:
    told = {"description": description}
    return fields.Integer(
        strict=True, validate=validate.Range(0), metadata=told, **{"required": True, **more}
    )


def _text(description: str, **more: Any) -> fields.String:
    return fields.String(metadata={"description": description}, **{"required": True, **more})


def _time(description: str, **more: Any) -> fields.AwareDateTime:
    told = {"description": description}
    return fields.AwareDateTime("iso", metadata=told, **{"required": True, **more})


def _anything(description: str, **more: Any) -> fields.Raw:
    return fields.Raw(allow_none=True, metadata={"description": description}, **more)


def _seq(**more: Any) -> fields.Integer:
    return _count("The place among all stored events; it only grows.", **more)


def _digest(description: str) -> fields.String:
    return _text(description, validate=validate.Regexp("^([0-9a-f]{34})?$"))


def _next() -> fields.String:
    told = "The `after` of the next page; null where there is none."
    return _text(told, allow_none=True)


def _always(status: str) -> fields.String:
    return fields.String(required=True, validate=validate.Equal(status))


class AnswerSchema(Schema):
    """The base of them. Further members may come with a later version."""


class ProblemSchema(AnswerSchema):
    """What went wrong (RFC 9457)."""

    title = _text("The name of the status.")
    status = _count("The status, once more.")
    detail = _text("What is wrong, and what can be done about it.")


class FaultSchema(AnswerSchema):
    """One thing wrong with an event."""

    pointer = _text("Where: a JSON pointer (RFC 6901) into the event.")
    detail = _text("What.")


class ResultSchema(AnswerSchema):
    """What became of one event."""

    index = _count("The place of the event in the request, from 0.")
    topic = _text("As it was sent, where it could be read.", required=False)
    event_id = _text("As it was sent, where it could be read.", required=False)
    quarantine_id = _count("Under which id it was in quarantine.", required=False)


class StoredResultSchema(ResultSchema):
    """New, and stored."""

    status = _always("stored")
    seq = _seq()


class DuplicateResultSchema(ResultSchema):
    """The same event is stored already."""

    status = _always("duplicate")
    seq = _seq()
    received_at = _time("When the stored one came.")


class ConflictResultSchema(ResultSchema):
    """Another content is stored under the key, and is kept."""

    status = _always("conflict")
    seq = _seq(allow_none=True)
    received_at = _time("When the other one came.")
    differences = fields.List(
        _text("A JSON pointer into the event."),
        required=True,
        metadata={"description": "The first places that differ."},
    )
    digest = _digest("The digest of this content.")
    stored_digest = _digest("The digest of the other one.")
    detail = _text("What is special about the other one.", required=False)


class InvalidResultSchema(ResultSchema):
    """Not an event that is taken."""

    status = _always("invalid")
    errors = fields.List(fields.Nested(FaultSchema), required=True)


class FilteredResultSchema(ResultSchema):
    """Kept out on purpose."""

    status = _always("filtered")
    reason = _text("Why.")


class RefusedResultSchema(ResultSchema):
    """Good, but another event of its strict request was not."""

    status = _always("refused")


class ByStatus(fields.Field[Any]):
    """An object, of the kind that its member `status` says."""

    def __init__(self, kinds: Mapping[str, type[Schema]]) -> None:
        super().__init__()
        self.kinds = kinds

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        kind = self.kinds.get(value["status"])
        if kind is None:
            raise ValidationError(f"There is no status {value['status']!r}.")
        return kind().load(value)


RESULTS: Mapping[str, type[ResultSchema]] = {
    "stored": StoredResultSchema,
    "duplicate": DuplicateResultSchema,
    "conflict": ConflictResultSchema,
    "invalid": InvalidResultSchema,
    "filtered": FilteredResultSchema,
    "refused": RefusedResultSchema,
}


class EnvelopeSchema(AnswerSchema):
    """What became of the events of a request: how many ended in which way, and each of them."""

    received = _count("All events of the request; the sum of the others.")
    stored = _count("New, and stored.")
    duplicates = _count("Stored already.")
    conflicts = _count("Of another content than the one stored under the same key.")
    invalid = _count("Not taken, for the errors in their results.")
    filtered = _count("Kept out by a stage on purpose.")
    refused = _count("Good, but not taken with the others of a strict request.", required=False)
    results = fields.List(
        ByStatus(RESULTS),
        metadata={"description": "One an event, in order; where `return=minimal`, those refused."},
    )


class RefusalSchema(ProblemSchema, EnvelopeSchema):
    """A problem with all events, which still says what became of each."""


class ReleaseSchema(EnvelopeSchema):
    """What became of the events that were released."""

    next = _next()


class ReleaseRefusalSchema(ProblemSchema, ReleaseSchema):
    """None of the events that were released could be taken."""


class LaterSchema(AnswerSchema):
    """The events are accepted; what becomes of them is not waited for."""

    received = _count("All events of the request.")
    submission = _text("The id of the request.")
    failures = _text("Where those events show that could not be stored.")


class StoredEventSchema(AnswerSchema):
    """An event as it is read back."""

    seq = _seq()
    received_at = _time("When it came.")
    topic = _text("As it was sent.")
    event_id = _text("As it was sent.")
    timestamp = _text("As it was sent; null for a CloudEvent without a time.", allow_none=True)
    source = _text("As it was sent.")
    attributes = fields.Dict(metadata={"description": "What else a CloudEvent says of itself."})
    payload = _anything("Byte for byte as it was sent; null where there is none.")
    payload_base64 = _text("A payload that is no JSON.", required=False)
    damaged = _text("Why the payload cannot be shown: it is not what was stored.", required=False)
    emptied = _text("Why the payload cannot be shown: it is kept no more.", required=False)


class PageSchema(AnswerSchema):
    """Some of the events that match, in order."""

    events = fields.List(fields.Nested(StoredEventSchema), required=True)
    next = _next()


class ChoiceSchema(AnswerSchema):
    """One of several events of one topic and id."""

    seq = _seq()
    source = _text("Who sent it.")
    href = _text("Where it is.")


class ChoicesSchema(AnswerSchema):
    """The events of one topic and id, where there are several."""

    choices = fields.List(fields.Nested(ChoiceSchema), required=True)


class SeenSchema(AnswerSchema):
    """How often something came, and when."""

    times = _count("How often it came.")
    first_seen_at = _time("When it came first.")
    last_seen_at = _time("When it came last.")


class SightingsSchema(SeenSchema):
    """How often the event came from one source."""

    source = _text("Who sent it.")
    duplicates = _count("With the content that is stored.")
    conflicts = _count("With another content.")


class ClashesSchema(SeenSchema):
    """Another content that came under the same key."""

    digest = _digest("The digest of that content.")
    differences = fields.List(_text("A JSON pointer into the event."), required=True)
    source = _text("Who sent it first.")


class ExplanationSchema(SeenSchema):
    """Everything that is known of the events that came under one key."""

    seq = _seq()
    topic = _text("As it was sent.")
    event_id = _text("As it was sent.")
    duplicates = _count("How often it came again.")
    conflicts = _count("How often another content came under its key.")
    sources = fields.List(fields.Nested(SightingsSchema), required=True)
    sources_cut = fields.Boolean(required=True)
    conflicting = fields.List(fields.Nested(ClashesSchema), required=True)
    conflicting_cut = fields.Boolean(required=True)


class PlaceSchema(AnswerSchema):
    """A stored event, and when it came."""

    seq = _seq()
    received_at = _time("When it came.")


class TopicSchema(AnswerSchema):
    """A topic with stored events."""

    topic = _text("Its name.")
    stored = _count("Events stored on it.")
    duplicates = _count("Those that came again.")
    conflicts = _count("Those that came with another content.")
    first = fields.Nested(PlaceSchema, required=True)
    last = fields.Nested(PlaceSchema, required=True)


class TopicsSchema(AnswerSchema):
    """Some of the topics, by name."""

    topics = fields.List(fields.Nested(TopicSchema), required=True)
    next = _next()


class StatsSchema(AnswerSchema):
    """The numbers of one moment."""

    received_total = _count("All events, whatever became of them.")
    unique_processed = _count("Stored.")
    duplicate_dropped = _count("Duplicates, and conflicts too.")
    conflicts = _count("Conflicts.")
    invalid = _count("Refused as invalid.")
    filtered = _count("Kept out by a stage on purpose.")
    refused = _count("Good, but refused with their strict request.")
    failed_async = _count("Failed after their publisher was answered 202.")
    quarantined = _count("In quarantine now.")
    quarantine_evicted = _count("Gone from quarantine because it was full or they were too old.")
    queue_size_current = _count("Accepted, and not committed yet.")
    processed_topics = fields.List(_text("A topic with stored events."), required=True)
    processed_topics_total = _count("How many topics there are.")
    uptime_seconds = fields.Float(required=True)


class StatusSchema(AnswerSchema):
    """How the service is."""

    status = _text("In a word.")


class QuarantinedSchema(AnswerSchema):
    """An event that was not stored and is kept beside."""

    id = _count("Under which it can be released or dropped.")
    kept_at = _time("Since when it is kept.")
    reason = fields.String(
        required=True, validate=validate.OneOf(["invalid", "conflict", "failed"])
    )
    submission = _text("The id of the request that it came with.")
    topic = _text("Its topic, where it could be read.", allow_none=True)
    event_id = _text("Its id, where it could be read.", allow_none=True)
    errors = fields.List(fields.Nested(FaultSchema), required=True)
    format = fields.String(required=True, validate=validate.OneOf(["event", "cloudevents"]))
    body = _anything("The event as it was sent.")
    body_base64 = _text("The same, where that is no JSON that every reader takes.", required=False)


class QuarantinePageSchema(AnswerSchema):
    """Some of what is in quarantine."""

    quarantined = fields.List(fields.Nested(QuarantinedSchema), required=True)
    next = _next()


class DroppedSchema(AnswerSchema):
    """How many events were removed from quarantine."""

    dropped = _count("How many.")
    next = _next()
