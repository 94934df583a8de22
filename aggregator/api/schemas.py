"""What answers look like, as schemas."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from aggregator.api.responses import JSON, PROBLEM
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Refused, Stored
from aggregator.store import QuarantineReason


def number(description: str, **more: Any) -> fields.Integer:
    """A number of things."""
    told = {"description": description}
    return fields.Integer(
        strict=True, validate=validate.Range(0), metadata=told, **{"required": True, **more}
    )


def words(description: str, **more: Any) -> fields.String:
    """A string."""
    return fields.String(metadata={"description": description}, **{"required": True, **more})


def octets(description: str) -> fields.String:
    """Bytes, as text; only where there are any."""
    told = {"description": description, "contentEncoding": "base64"}
    return fields.String(metadata=told)


def moment(description: str, **more: Any) -> fields.AwareDateTime:
    """A time."""
    told = {"description": description}
    return fields.AwareDateTime("iso", metadata=told, **{"required": True, **more})


def any_json(description: str, **more: Any) -> fields.Raw:
    """Any JSON."""
    return fields.Raw(allow_none=True, metadata={"description": description}, **more)


def place(**more: Any) -> fields.Integer:
    """The seq of an event."""
    return number("The place among all stored events; it only grows.", **more)


def checksum(description: str) -> fields.String:
    """The digest of a content."""
    return words(description, validate=validate.Regexp("^([0-9a-f]{34})?$"))


def following() -> fields.String:
    """Where the next page begins."""
    told = "The `after` of the next page; null where there is none."
    return words(told, allow_none=True)


class AnswerSchema(Schema):
    """The base of them. Further members may come with a later version."""


class ProblemSchema(AnswerSchema):
    """What went wrong (RFC 9457)."""

    title = words("The name of the status.")
    status = number("The status, once more.")
    detail = words("What is wrong, and what can be done about it.")


class FaultSchema(AnswerSchema):
    """One thing wrong with an event."""

    pointer = words("Where: a JSON pointer (RFC 6901) into the event.")
    detail = words("What.")


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


def _always(outcome: type[Outcome]) -> fields.String:
    return fields.String(required=True, validate=validate.Equal(outcome.status))


class ResultSchema(AnswerSchema):
    """What became of one event."""

    index = number("The place of the event in the request, from 0.")
    topic = words("As it was sent, where it could be read.", required=False)
    event_id = words("As it was sent, where it could be read.", required=False)
    quarantine_id = number("Under which id it was in quarantine.", required=False)


class StoredResultSchema(ResultSchema):
    """New, and stored."""

    status = _always(Stored)
    seq = place()


class DuplicateResultSchema(ResultSchema):
    """The same event is stored already."""

    status = _always(Duplicate)
    seq = place()
    received_at = moment("When the stored one came.")


class ConflictResultSchema(ResultSchema):
    """Another content is stored under the key, and is kept."""

    status = _always(Conflict)
    seq = place(allow_none=True)
    received_at = moment("When the other one came.")
    differences = fields.List(
        words("A JSON pointer into the event."),
        required=True,
        metadata={"description": "The first places that differ."},
    )
    digest = checksum("The digest of this content.")
    stored_digest = checksum("The digest of the other one.")
    detail = words("What is special about the other one.", required=False)


class InvalidResultSchema(ResultSchema):
    """Not an event that is taken."""

    status = _always(Invalid)
    errors = fields.List(fields.Nested(FaultSchema), required=True)


class FilteredResultSchema(ResultSchema):
    """Kept out on purpose."""

    status = _always(Filtered)
    reason = words("Why.")


class RefusedResultSchema(ResultSchema):
    """Good, but another event of its strict request was not."""

    status = _always(Refused)


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
    Stored.status: StoredResultSchema,
    Duplicate.status: DuplicateResultSchema,
    Conflict.status: ConflictResultSchema,
    Invalid.status: InvalidResultSchema,
    Filtered.status: FilteredResultSchema,
    Refused.status: RefusedResultSchema,
}


class EnvelopeSchema(AnswerSchema):
    """What became of the events of a request: how many ended in which way, and each of them."""

    received = number("All events of the request; the sum of the others.")
    stored = number("New, and stored.")
    duplicates = number("Stored already.")
    conflicts = number("Of another content than the one stored under the same key.")
    invalid = number("Not taken, for the errors in their results.")
    filtered = number("Kept out by a stage on purpose.")
    refused = number("Good, but not taken with the others of a strict request.", required=False)
    results = fields.List(
        ByStatus(RESULTS),
        metadata={"description": "One an event, in order; where `return=minimal`, those refused."},
    )


class RefusalSchema(ProblemSchema, EnvelopeSchema):
    """A problem with all events, which still says what became of each."""


class ReleaseSchema(EnvelopeSchema):
    """What became of the events that were released."""

    next = following()


class ReleaseRefusalSchema(ProblemSchema, ReleaseSchema):
    """None of the events that were released could be taken."""


class LaterSchema(AnswerSchema):
    """The events are accepted; what becomes of them is not waited for."""

    received = number("All events of the request.")
    submission = words("The id of the request.")
    failures = words("Where those events show that could not be stored.")


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
