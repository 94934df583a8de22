"""Reads stored events: pages, all of them, one by its topic and id, its history, and the topics."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple
from urllib.parse import quote

from aiohttp import web
from msgspec import Meta

from aggregator.access import access_of
from aggregator.api import stored_event
from aggregator.api.export import Exporter
from aggregator.api.permitted import check_query, permitted, permitted_topics
from aggregator.api.query import EventSelector, EventSelectorSchema, PageSchema, TopicsSchema, parse
from aggregator.api.request.media_type import NDJSON
from aggregator.api.responses import (
    CLOUD_EVENT,
    CLOUD_EVENTS,
    JSON,
    NEGOTIATED,
    Answer,
    AsSent,
    Count,
    DateTime,
    Digest,
    JsonPointers,
    Next,
    Seq,
    json_response,
    link_header,
    negotiate,
    next_after,
    next_link,
    url,
)
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.api.stored_event import payload_state, render_cloud_event, render_json
from aggregator.core import timestamp
from aggregator.core.identity import key_of
from aggregator.core.quoting import quoted
from aggregator.errors import NotFound
from aggregator.route import NO_CACHE, matches_etag
from aggregator.store import (
    ConflictStats,
    History,
    KeepsHistory,
    Page,
    Query,
    RedeliveryStats,
    Store,
    StoredEvent,
)
from aggregator.store import Topic as StoredTopic

_PAGE_TYPES = (JSON, *NDJSON, CLOUD_EVENTS)
_EVENT_TYPES = (JSON, CLOUD_EVENT)
_IN_ETAG = {JSON: "json", CLOUD_EVENT: "cloudevent"}
_MOST_CHOICES = 20
_MOST_SOURCES = 1000


class EventPage(Answer, kw_only=True):
    """Some of the events that match, in order."""

    events: list[stored_event.StoredEvent]
    next: Next


class Choice(Answer, kw_only=True):
    """One of several events of one topic and id."""

    seq: Seq
    source: Annotated[str, Meta(description="Who sent it.")]
    href: Annotated[str, Meta(description="Where it is.")]


class Choices(Answer, kw_only=True):
    """The events of one topic and id, where there are several."""

    choices: list[Choice]
    cut: Annotated[bool, Meta(description="Whether there are more.")]


class SourceStats(Answer, kw_only=True):
    """How often the event came from one source."""

    source: Annotated[str, Meta(description="Who sent it.")]
    times: Annotated[Count, Meta(description="How often it came.")]
    duplicates: Annotated[Count, Meta(description="With the content that is stored.")]
    conflicts: Annotated[Count, Meta(description="With another content.")]
    first_seen_at: Annotated[DateTime, Meta(description="When it came first.")]
    last_seen_at: Annotated[DateTime, Meta(description="When it came last.")]


class ConflictingContent(Answer, kw_only=True):
    """Another content that came under the same key."""

    digest: Annotated[Digest, Meta(description="The digest of that content.")]
    differences: JsonPointers
    source: Annotated[str, Meta(description="Who sent it first.")]
    times: Annotated[Count, Meta(description="How often it came.")]
    first_seen_at: Annotated[DateTime, Meta(description="When it came first.")]
    last_seen_at: Annotated[DateTime, Meta(description="When it came last.")]


class Explanation(Answer, kw_only=True):
    """Everything that is known of the events that came under one key."""

    seq: Seq
    topic: AsSent
    event_id: AsSent
    times: Annotated[Count, Meta(description="How often it came.")]
    duplicates: Annotated[Count, Meta(description="How often it came again.")]
    conflicts: Annotated[Count, Meta(description="How often another content came under its key.")]
    first_seen_at: Annotated[DateTime, Meta(description="When it came first.")]
    last_seen_at: Annotated[DateTime, Meta(description="When it came last.")]
    sources: list[SourceStats]
    sources_cut: Annotated[bool, Meta(description="Whether there are more sources.")]
    conflicting: list[ConflictingContent]
    conflicting_cut: Annotated[bool, Meta(description="Whether there are more contents.")]


class Place(Answer, kw_only=True):
    """A stored event, and when it came."""

    seq: Seq
    received_at: Annotated[DateTime, Meta(description="When it came.")]


class Topic(Answer, kw_only=True):
    """A topic with stored events."""

    topic: Annotated[str, Meta(description="Its name.")]
    stored: Annotated[Count, Meta(description="Events stored on it.")]
    duplicates: Annotated[Count, Meta(description="Those that came again.")]
    conflicts: Annotated[Count, Meta(description="Those that came with another content.")]
    first: Place
    last: Place


class TopicPage(Answer, kw_only=True):
    """Some of the topics, by name."""

    topics: list[Topic]
    next: Next


@dataclass(frozen=True)
class EventHandlers:
    """Answers `/events`, `/events/{topic}/{event_id}`, its `/explain`, and `/topics`."""

    limiter: ReadLimiter
    sender: Sender
    exporter: Exporter

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A page of stored events, or all of them where NDJSON is asked for."""
        media_type = negotiate(request, _PAGE_TYPES)
        if media_type in NDJSON:
            return await self.exporter.send(request, media_type)
        wanted = parse(PageSchema(), request.query)
        access = access_of(request)
        check_query(wanted, access)
        async with self.limiter.acquire(request) as store:
            found = permitted(await store.events(wanted), access)
            page = _page_response(request, found, media_type)
        return await self.sender.send(request, page)

    async def event(self, request: web.Request) -> web.StreamResponse:
        """One stored event, or the choice between several."""
        media_type = negotiate(request, _EVENT_TYPES)
        selector = parse(EventSelectorSchema(), request.query)
        access_of(request).check_topic(request.match_info["topic"])
        async with self.limiter.acquire(request) as store:
            found = await _find(store, **request.match_info, selector=selector)
            answer = (
                _choices_response(found)
                if len(found.events) > 1
                else _event_response(request, found.events[0], media_type)
            )
        return await self.sender.send(request, answer)

    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Everything that is known of the events that came under one key."""
        selector = parse(EventSelectorSchema(), request.query)
        access_of(request).check_topic(request.match_info["topic"])
        async with self.limiter.acquire(request) as store:
            found = await _find(store, **request.match_info, selector=selector)
            if len(found.events) > 1:
                return await self.sender.send(request, _choices_response(found, "explain"))
            (event,) = found.events
            assert isinstance(store, KeepsHistory)
            history = await store.history(event.seq, _MOST_SOURCES + 1)
        explanation = json_response(_explanation(event, history), headers=NO_CACHE)
        return await self.sender.send(request, explanation)

    async def topics(self, request: web.Request) -> web.StreamResponse:
        """A page of topics, by name."""
        wanted = parse(TopicsSchema(), request.query)
        found: list[StoredTopic] = []
        async for topic in permitted_topics(
            self.limiter, request, access_of(request), wanted.after, wanted.limit + 1
        ):
            found.append(topic)
            if len(found) > wanted.limit:
                break
        shown = found[: wanted.limit]
        after = shown[-1].name if len(found) > len(shown) else None
        page = TopicPage(topics=[_topic(topic) for topic in shown], next=after)
        headers = {**NO_CACHE, **next_link(request, after)}
        return await self.sender.send(request, json_response(page, headers=headers))


def _page_response(request: web.Request, found: Page, media_type: str) -> web.Response:
    """A page as JSON or as a batch of CloudEvents, and where to go on."""
    after = next_after(found.next)
    headers = {**NEGOTIATED, **next_link(request, after)}
    if media_type == CLOUD_EVENTS:
        batch = [render_cloud_event(event) for event in found.events]
        return json_response(batch, 200, headers, media_type)
    events = [render_json(event) for event in found.events]
    return json_response(EventPage(events=events, next=after), 200, headers)


def _event_response(request: web.Request, found: StoredEvent, media_type: str) -> web.Response:
    """One event as JSON or as a CloudEvent; 304 if the client has it already."""
    etag = f'"{found.seq}-{found.digest.hex()}-{payload_state(found)}-{_IN_ETAG[media_type]}"'
    headers = {**NEGOTIATED, "ETag": etag}
    if matches_etag(request, etag):
        return web.Response(status=304, headers=headers)
    rendered = render_cloud_event(found) if media_type == CLOUD_EVENT else render_json(found)
    return json_response(rendered, 200, headers, media_type)


class _Found(NamedTuple):
    """The events of one topic and id, at least one; the first ones if there are more."""

    events: list[StoredEvent]
    is_cut: bool


async def _find(store: Store, topic: str, event_id: str, selector: EventSelector) -> _Found:
    """What is stored under that topic and id and meant by the request. Raises NotFound."""
    name = key_of(topic, event_id)
    if selector.seq is None:
        found = await store.find(name, _MOST_CHOICES + 1, selector.source)
    else:
        found = await _find_by_seq(store, name, selector.seq, selector.source)
    if not found:
        raise NotFound(f"No such event {quoted(event_id)} is stored on the topic {quoted(topic)}.")
    return _Found(found[:_MOST_CHOICES], len(found) > _MOST_CHOICES)


async def _find_by_seq(
    store: Store, name: bytes, seq: int, source: str | None
) -> list[StoredEvent]:
    page = await store.events(Query(after=seq - 1, limit=1))
    return [
        event
        for event in page.events
        if event.seq == seq
        and name in (event.key, key_of(event.topic, event.event_id))
        and source in (None, event.source)
    ]


def _choices_response(found: _Found, call: str = "") -> web.Response:
    """The events of one topic and id, of which the request does not say which one it means.

    The links lead to the same call for each of them.
    """
    choices = [
        Choice(seq=event.seq, source=event.source, href=_event_url(event, call))
        for event in found.events
    ]
    # Relative to this very request: in full they might be more than clients take as a header.
    links = link_header(*(f"?seq={event.seq}" for event in found.events), rel="alternate")
    body = Choices(choices=choices, cut=found.is_cut)
    return json_response(body, 300, {**NEGOTIATED, "Link": links})


def _event_url(event: StoredEvent, call: str = "") -> str:
    """Where this very event is, or a call below it."""
    if not call and {event.topic, event.event_id} & {".", ".."}:
        # Clients take such a step in a path for one to a folder above, escaped or not.
        return url("/events", {"after": str(event.seq - 1), "limit": "1"})
    names = ("events", event.topic, event.event_id, *filter(None, [call]))
    path = "".join(f"/{quote(name, safe='')}" for name in names)
    return url(path, {"seq": str(event.seq)})


def _explanation(event: StoredEvent, history: History) -> Explanation:
    redeliveries = history.redeliveries[:_MOST_SOURCES]
    duplicates = sum(seen.duplicates for seen in redeliveries)
    conflicts = sum(seen.conflicts for seen in redeliveries)
    last = max([event.received_at, *(seen.last_at for seen in redeliveries)])
    return Explanation(
        seq=event.seq,
        topic=event.topic,
        event_id=event.event_id,
        times=1 + duplicates + conflicts,
        duplicates=duplicates,
        conflicts=conflicts,
        first_seen_at=timestamp.rfc_3339(event.received_at),
        last_seen_at=timestamp.rfc_3339(last),
        sources=_sources(event, redeliveries),
        sources_cut=len(history.redeliveries) > _MOST_SOURCES,
        conflicting=[_conflicting(clash) for clash in history.conflicts],
        conflicting_cut=sum(clash.times for clash in history.conflicts) < conflicts,
    )


def _sources(event: StoredEvent, redeliveries: list[RedeliveryStats]) -> list[SourceStats]:
    """One a source; the one that sent what is stored comes first, and its event counts."""
    first = RedeliveryStats(event.source, 0, 0, event.received_at, event.received_at)
    by_source = {seen.source: seen for seen in (first, *redeliveries)}
    return [_source(seen, event) for seen in by_source.values()]


def _source(seen: RedeliveryStats, event: StoredEvent) -> SourceStats:
    is_first = seen.source == event.source
    begin = min(seen.first_at, event.received_at) if is_first else seen.first_at
    return SourceStats(
        source=seen.source,
        times=is_first + seen.duplicates + seen.conflicts,
        duplicates=seen.duplicates,
        conflicts=seen.conflicts,
        first_seen_at=timestamp.rfc_3339(begin),
        last_seen_at=timestamp.rfc_3339(seen.last_at),
    )


def _conflicting(clash: ConflictStats) -> ConflictingContent:
    return ConflictingContent(
        digest=clash.digest.hex(),
        differences=clash.differences,
        source=clash.source,
        times=clash.times,
        first_seen_at=timestamp.rfc_3339(clash.first_at),
        last_seen_at=timestamp.rfc_3339(clash.last_at),
    )


def _topic(topic: StoredTopic) -> Topic:
    return Topic(
        topic=topic.name,
        stored=topic.stored,
        duplicates=topic.duplicate,
        conflicts=topic.conflict,
        first=Place(seq=topic.first_seq, received_at=timestamp.rfc_3339(topic.first_at)),
        last=Place(seq=topic.last_seq, received_at=timestamp.rfc_3339(topic.last_at)),
    )
