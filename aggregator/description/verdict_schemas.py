"""What publishers are answered, as schemas."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from aggregator.description.schemas import (
    AnswerSchema,
    FaultSchema,
    ProblemSchema,
    checksum,
    following,
    moment,
    number,
    place,
    words,
)
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Refused, Stored


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
