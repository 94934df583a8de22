"""What the service answers to readers: events as they are read back, and numbers."""

from typing import Any

import msgspec
from aiohttp import web

from aggregator import timestamp
from aggregator.content import is_damaged
from aggregator.ledger import Snapshot
from aggregator.store import Page, StoredEvent


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
            "failed_async": counters.failed_async,
            "quarantined": counters.quarantined,
            "quarantine_evicted": counters.evicted,
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
    if is_damaged(found.source, found.payload, found.digest, found.form):
        told["payload"] = None
        told["damaged"] = "What is stored does not match the hash made when it was received."
    return told
