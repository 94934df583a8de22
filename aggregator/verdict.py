"""The answer to a publish: a verdict for each event."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from aggregator import timestamp
from aggregator.answer import as_json
from aggregator.event import Event, Submission
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Stored
from aggregator.problems import problem

_MOST_FAULTS = 5_000


def of(submission: Submission) -> web.Response:
    """The answer to a publish: 200, 207 if some were refused, 422 if all were."""
    results = _results(submission.events)
    counts = _counts(submission)
    refused = sum(1 for event in submission.events if event.outcome and event.outcome.refuses)
    if refused == len(submission.events):
        detail = "No event was stored: each is refused, for the reasons given in results."
        return problem(422, detail, members={**counts, "results": results})
    return as_json({**counts, "results": results}, 207 if refused else 200)


def _counts(submission: Submission) -> dict[str, int]:
    counts = Counter(type(event.outcome) for event in submission.events)
    return {
        "received": len(submission.events),
        "stored": counts[Stored],
        "duplicates": counts[Duplicate],
        "conflicts": counts[Conflict],
        "invalid": counts[Invalid],
        "filtered": counts[Filtered],
    }


def _results(events: Sequence[Event]) -> list[dict[str, Any]]:
    """One an event; once many faults are told, only the first of each further event."""
    results = []
    told = 0
    for event in events:
        result = _result(event)
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
        case (
            Duplicate(seq=seq, received_at=received_at) | Conflict(seq=seq, received_at=received_at)
        ):
            return {"seq": seq, "received_at": timestamp.show(received_at)}
        case Invalid(faults=faults):
            return {"errors": faults}
        case Filtered(reason=reason):
            return {"reason": reason}
    return {}
