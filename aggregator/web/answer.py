"""What the service answers to readers: events as they are read back, and numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from aggregator.api.request.media_type import Format
from aggregator.core import timestamp
from aggregator.pipeline.pending import Snapshot
from aggregator.store import Page, StoredEvent, Topic
from aggregator.web import link, shown
from aggregator.web.finding import Found
from aggregator.web.lean import Lean

JSON = Format.JSON.value
CLOUD_EVENT = Format.CLOUD_EVENT.value
CLOUD_EVENTS = Format.CLOUD_BATCH.value

_TAGGED = {JSON: "json", CLOUD_EVENT: "cloudevent"}
_ENTITY_TAG = re.compile(r'"[^"]*"')
ASK_AGAIN = {"Cache-Control": "no-cache"}
"""For what may be kept, but is to be asked for again each time."""
_VARY = {"Vary": "Accept", **ASK_AGAIN}
_OF_THE_MOMENT = {"Cache-Control": "no-store"}


def page(found: Page, form: str, request: web.Request) -> web.Response:
    """A page of events as JSON or as a batch of CloudEvents, and where to go on."""
    following = cursor(found.next)
    headers = {**_VARY, **next_link(request, following)}
    if form == CLOUD_EVENTS:
        return as_json([shown.as_cloud_event(event) for event in found.events], 200, headers, form)
    events = [shown.as_event(event) for event in found.events]
    return as_json({"events": events, "next": following}, 200, headers)


def event(found: StoredEvent, form: str, request: web.Request) -> web.Response:
    """One event as JSON or as a CloudEvent; 304 to whoever has it already."""
    tag = f'"{found.seq}-{found.digest.hex()}-{shown.state(found)}-{_TAGGED[form]}"'
    headers = {**_VARY, "ETag": tag}
    if has(request, tag):
        return web.Response(status=304, headers=headers)
    told = shown.as_cloud_event(found) if form == CLOUD_EVENT else shown.as_event(found)
    return as_json(told, 200, headers, form)


def choices(found: Found, call: str = "") -> web.Response:
    """The events of one topic and id, of which the request does not say which one it means.

    The links lead to the same call for each of them.
    """
    told = [
        {
            "seq": event.seq,
            "source": event.source,
            "href": link.to_event(event, call),
        }
        for event in found.events
    ]
    # Relative to this very request: in full they might be more than clients take as a header.
    links = link.header(*(f"?seq={event.seq}" for event in found.events), rel="alternate")
    return as_json({"choices": told, "cut": found.is_cut}, 300, {**_VARY, "Link": links})


def topics(found: Sequence[Topic], following: str | None, request: web.Request) -> web.Response:
    """Topics with their counts, and where to go on."""
    told = [
        {
            "topic": topic.name,
            "stored": topic.stored,
            "duplicates": topic.duplicate,
            "conflicts": topic.conflict,
            "first": {"seq": topic.first_seq, "received_at": timestamp.rfc_3339(topic.first_at)},
            "last": {"seq": topic.last_seq, "received_at": timestamp.rfc_3339(topic.last_at)},
        }
        for topic in found
    ]
    headers = {**ASK_AGAIN, **next_link(request, following)}
    return as_json({"topics": told, "next": following}, 200, headers)


def explanation(told: Mapping[str, Any]) -> web.Response:
    """What is known of an event by now."""
    return as_json(told, 200, ASK_AGAIN)


def stats(snapshot: Snapshot, topics: list[str], uptime: float) -> web.Response:
    """The numbers of one moment; those received are the sum of all others."""
    counters = snapshot.counters
    return state(
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


def state(told: Mapping[str, Any]) -> web.Response:
    """How the service is at this moment, which nobody should keep."""
    return as_json(told, 200, _OF_THE_MOMENT)


def as_json(
    told: Any, status: int = 200, headers: Mapping[str, str] | None = None, form: str = JSON
) -> web.Response:
    """The value as JSON."""
    return Lean(body=msgspec.json.encode(told), status=status, headers=headers, content_type=form)


def cursor(after: int | None) -> str | None:
    """Where to go on, as it is told; None at the end."""
    return None if after is None else str(after)


def next_link(request: web.Request, following: str | None) -> dict[str, str]:
    """The header that leads to the next page, if there is one."""
    if following is None:
        return {}
    return {"Link": link.header(link.to_next(request, following), rel="next")}


def has(request: web.Request, tag: str) -> bool:
    """Whether the request says that it has what the tag stands for, compared weakly."""
    said = ",".join(request.headers.getall("If-None-Match", ()))
    return said.strip() == "*" or tag in _ENTITY_TAG.findall(said)
