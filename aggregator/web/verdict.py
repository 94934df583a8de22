"""The answer to a publish: a verdict for each event."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from aggregator import timestamp
from aggregator.event import Event, Submission
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Refused, Stored
from aggregator.web.answer import as_json
from aggregator.web.problems import problem

_MOST_FAULTS = 5_000


def of(
    submission: Submission,
    *,
    is_minimal: bool = False,
    members: Mapping[str, Any] | None = None,
) -> web.Response:
    """The answer once all is settled; a minimal one tells only of what was refused."""
    events = [event for event in submission.events if not is_minimal or submission.refuses(event)]
    results = _results(events, submission.released)
    told: dict[str, Any] = {**_counts(submission), **(members or {})}
    if results or not is_minimal:
        told["results"] = results
    status = _status(submission)
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


def _status(submission: Submission) -> int:
    """200; 207 if some were refused; 422 if all were, or 409 if all of those were conflicts."""
    refused = [event for event in submission.events if submission.refuses(event)]
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


def _counts(submission: Submission) -> dict[str, int]:
    counts = Counter(type(event.outcome) for event in submission.events)
    told = {
        "received": len(submission.events),
        "stored": counts[Stored],
        "duplicates": counts[Duplicate],
        "conflicts": counts[Conflict],
        "invalid": counts[Invalid],
        "filtered": counts[Filtered],
    }
    return told | ({"refused": counts[Refused]} if submission.is_strict else {})


def _results(events: Sequence[Event], released: Sequence[int]) -> list[dict[str, Any]]:
    """One an event; once many faults are told, only the first of each further event."""
    results = []
    told = 0
    for event in events:
        result = _result(event)
        if released:
            result["quarantine_id"] = released[event.index]
        if faults := result.get("errors"):
            result["errors"] = faults[: 1 if told > _MOST_FAULTS else None]
            told += len(result["errors"])
        results.append(result)
    return results


def _result(event: Event) -> dict[str, Any]:
    assert event.outcome
    result: dict[str, Any] = {"index": event.index}
    if event.topic:
        result["topic"] = event.topic
    if event.event_id:
        result["event_id"] = event.event_id
    return {**result, "status": event.outcome.status, **_details(event.outcome)}


def _details(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Stored(seq=seq):
            return {"seq": seq}
        case Duplicate(seq=seq, received_at=received_at):
            return {"seq": seq, "received_at": timestamp.show(received_at)}
        case Conflict():
            return _conflict(outcome)
        case Invalid(faults=faults):
            return {"errors": faults}
        case Filtered(reason=reason):
            return {"reason": reason}
    return {}


def _conflict(conflict: Conflict) -> dict[str, Any]:
    told: dict[str, Any] = {
        "seq": conflict.seq,
        "received_at": timestamp.show(conflict.received_at),
        "differences": conflict.differences,
        "digest": conflict.digest.hex(),
        "stored_digest": conflict.stored_digest.hex(),
    }
    if conflict.seq is None:
        told["detail"] = "It conflicts with an event of this request, which is not stored either."
    if conflict.is_emptied:
        told["detail"] = "The stored payload is kept no more: only the digests can be compared."
    return told
