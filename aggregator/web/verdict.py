"""The answer to a publish: a verdict for each event."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from aggregator.core import timestamp
from aggregator.event import Event, Submission, Verdict
from aggregator.outcome import (
    Conflict,
    Duplicate,
    Fault,
    Filtered,
    Invalid,
    Outcome,
    Refused,
    Stored,
)
from aggregator.web.answer import as_json
from aggregator.web.problems import problem

_MOST_FAULTS = 5_000
_MAY_BE_REFUSED = {Conflict, Invalid, Refused}
Kinds = Sequence[type[Verdict]]


class _Result(msgspec.Struct, omit_defaults=True):
    """What is told of one event, in this order."""

    index: int
    topic: str = ""
    event_id: str = ""
    status: str = ""
    seq: int | UnsetType | None = UNSET
    received_at: str | UnsetType = UNSET
    differences: Sequence[str] | UnsetType = UNSET
    digest: str | UnsetType = UNSET
    stored_digest: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    errors: Sequence[Fault] | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    quarantine_id: int | UnsetType = UNSET


def of(
    submission: Submission,
    *,
    is_minimal: bool = False,
    members: Mapping[str, Any] | None = None,
) -> web.Response:
    """The answer once all is settled; a minimal one tells only of what was refused."""
    kinds = [type(event.verdict) for event in submission.events]
    refused = _refused(submission, kinds)
    results = _results(refused if is_minimal else submission.events, submission.released)
    told: dict[str, Any] = {**_counts(submission, kinds), **(members or {})}
    if results or not is_minimal:
        told["results"] = results
    status = _status(submission, refused)
    if status < 400:
        return as_json(told, status)
    return problem(status, _why(submission, status), members=told)


def later(submission: Submission) -> web.Response:
    """The answer while nothing is settled: how many events were taken, and where failures show."""
    return as_json(
        {
            "received": len(submission.events),
            "submission": submission.id,
            "failures": f"/quarantine?submission={submission.id}",
        },
        202,
    )


def _refused(submission: Submission, kinds: Kinds) -> list[Event]:
    """The events that are refused, looked for where there may be some."""
    if _MAY_BE_REFUSED.isdisjoint(kinds):
        return []
    return [event for event in submission.events if submission.refuses(event)]


def _status(submission: Submission, refused: Sequence[Event]) -> int:
    """200; 207 if some were refused; 422 if all were, or 409 if all of those were conflicts."""
    if not refused:
        return 200
    if len(refused) < len(submission.events) and not submission.is_strict:
        return 207
    blamed = [event for event in refused if not isinstance(event.outcome, Refused)]
    return 409 if all(isinstance(event.outcome, Conflict) for event in blamed) else 422


def _why(submission: Submission, status: int) -> str:
    if submission.is_strict:
        cause = "conflicts with what is stored" if status == 409 else "is invalid"
        return f"No event was stored: handling is strict, and one {cause}, as results say."
    return "No event was stored: each is refused, for the reasons given in results."


def _counts(submission: Submission, kinds: Kinds) -> dict[str, int]:
    told = {
        "received": len(kinds),
        "stored": kinds.count(Stored),
        "duplicates": kinds.count(Duplicate),
        "conflicts": kinds.count(Conflict),
        "invalid": kinds.count(Invalid),
        "filtered": kinds.count(Filtered),
    }
    if submission.is_strict:
        told["refused"] = kinds.count(Refused)
    return told


def _results(events: Sequence[Event], released: Sequence[int]) -> list[_Result]:
    """One an event; once many faults are told, only the first of each further event."""
    results = [
        _Result(event.index, event.topic, event.event_id, Stored.status, verdict.seq)
        if type(verdict := event.verdict) is Stored  # nearly every one
        else _result(event)
        for event in events
    ]
    told = 0
    for result in results:
        if result.errors:
            result.errors = result.errors[: 1 if told > _MOST_FAULTS else None]
            told += len(result.errors)
    for result in results if released else ():
        result.quarantine_id = released[result.index]
    return results


def _result(event: Event) -> _Result:
    outcome = event.verdict
    assert isinstance(outcome, Outcome)
    result = _Result(event.index, event.topic, event.event_id, outcome.status)
    match outcome:
        case Duplicate(seq=seq, received_at=received_at):
            result.seq = seq
            result.received_at = timestamp.rfc_3339(received_at)
        case Conflict():
            _tell(outcome, result)
        case Invalid(faults=faults):
            result.errors = faults
        case Filtered(reason=reason):
            result.reason = reason
    return result


def _tell(conflict: Conflict, result: _Result) -> None:
    result.seq = conflict.seq
    result.received_at = timestamp.rfc_3339(conflict.received_at)
    result.differences = conflict.differences
    result.digest = conflict.digest.hex()
    result.stored_digest = conflict.stored_digest.hex()
    if conflict.seq is None:
        result.detail = "It conflicts with an event of this request, which is not stored either."
    if conflict.is_emptied:
        result.detail = "The stored payload is kept no more: only the digests can be compared."
