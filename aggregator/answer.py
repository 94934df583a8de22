"""What the service answers: verdicts event by event, and events as they are read back."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from aggregator import timestamp
from aggregator.content import is_damaged
from aggregator.event import Event, Submission
from aggregator.ledger import Snapshot
from aggregator.outcome import Conflict, Duplicate, Filtered, Invalid, Outcome, Stored
from aggregator.problems import problem
from aggregator.store import Page, StoredEvent

_MOST_FAULTS = 5_000


def verdict(submission: Submission) -> web.Response:
    """The answer to a publish: 200, 207 if some were refused, 422 if all were."""
    results = _results(submission.events)
    counts = _counts(submission)
    refused = sum(1 for event in submission.events if event.outcome and event.outcome.refuses)
    if refused == len(submission.events):
        detail = "No event was stored: each is refused, for the reasons given in results."
        return problem(422, detail, members={**counts, "results": results})
    return as_json({**counts, "results": results}, 207 if refused else 200)


def page(found: Page) -> web.Response:
    """A page of events, and where to go on."""
    following = None if found.next is None else str(found.next)
    return as_json({"events": [_event(event) for event in found.events], "next": following})


def event(found: StoredEvent) -> web.Response:
    """One event."""
    return as_json(_event(found))


def stats(snapshot: Snapshot, topics: list[str], uptime: float) -> web.Response:
    """The numbers of one moment; those received are the sum of all others."""
    counters = snapshot.counters
    return as_json(
        {
            "received_total": counters.received + snapshot.queued,
            "unique_processed": counters.stored,
            "duplicate_dropped": counters.duplicate + counters.conflict,
            "conflicts": counters.conflict,
            "invalid": counters.invalid,
            "filtered": counters.filtered,
            "refused": counters.refused,
            "queue_size_current": snapshot.queued,
            "processed_topics": topics,
            "processed_topics_total": counters.topics,
            "uptime_seconds": round(uptime, 3),
        }
    )


def as_json(told: Any, status: int = 200) -> web.Response:
    """The value as JSON."""
    return web.Response(
        body=msgspec.json.encode(told), status=status, content_type="application/json"
    )


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


def _event(found: StoredEvent) -> dict[str, Any]:
    told = {
        "seq": found.seq,
        "received_at": timestamp.show(found.received_at),
        "topic": found.topic,
        "event_id": found.event_id,
        "timestamp": found.timestamp,
        "source": found.source,
        "payload": None if found.payload is None else msgspec.Raw(found.payload),
    }
    if is_damaged(found.source, found.payload, found.digest):
        told["payload"] = None
        told["damaged"] = "What is stored does not match the hash made when it was received."
    return told
