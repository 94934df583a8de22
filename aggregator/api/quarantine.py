"""`/quarantine`: what was not stored and is kept beside, to be read, released or dropped."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from marshmallow import fields, post_load, validate
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from aggregator import store
from aggregator.access import Access, access_of
from aggregator.api.client_address import Clients
from aggregator.api.publish import released_response
from aggregator.api.query import (
    LARGEST,
    LARGEST_PAGE,
    ArgumentsSchema,
    Timestamp,
    WholeNumber,
    described,
    parse,
)
from aggregator.api.request import strict_json
from aggregator.api.request.decoder import RequestContext
from aggregator.api.request.parsed_event import LONGEST_NAME
from aggregator.api.request.receiver import Receiver
from aggregator.api.responses import (
    Answer,
    Base64,
    Count,
    DateTime,
    Next,
    json_response,
    next_after,
    next_link,
)
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.core import timestamp
from aggregator.core.budget import Budget
from aggregator.core.quoting import cut
from aggregator.errors import NotFound, StageFault, Unparsable
from aggregator.event import Event, Submission
from aggregator.outcome import Fault, Invalid
from aggregator.pipeline.intake import Intake, new_submission_id
from aggregator.route import NO_CACHE
from aggregator.store import QuarantineQuery, QuarantineReason

_decode_faults = msgspec.json.Decoder(list[Fault]).decode


class QuarantineQuerySchema(ArgumentsSchema):
    """Which of the events in quarantine."""

    topic = fields.String(metadata=described("Only on this topic."))
    reason = fields.Enum(
        QuarantineReason, by_value=True, metadata=described("Only kept for this reason.")
    )
    submission = fields.String(metadata=described("Only those of this request."))
    kept_since = Timestamp(metadata=described("Only those kept since then, or later."))
    kept_until = Timestamp(metadata=described("Only those kept earlier."))
    after = WholeNumber(
        validate=validate.Range(0, LARGEST), metadata=described("Only after this id.")
    )
    limit = WholeNumber(
        validate=validate.Range(1, LARGEST_PAGE),
        metadata=described("The most events of a page, 100 by default."),
    )

    @post_load
    def _query(self, loaded: dict[str, Any], **_: Any) -> QuarantineQuery:
        return QuarantineQuery(**loaded)


_CONFLICT = Fault("", "Another content is stored under its key.")
_DAMAGED = "What is kept does not match the checksum that was stored with it."


class Quarantined(Answer, kw_only=True):
    """An event that was not stored and is kept beside."""

    id: Annotated[Count, Meta(description="Under which it can be released or dropped.")]
    kept_at: Annotated[DateTime, Meta(description="Since when it is kept.")]
    reason: QuarantineReason
    submission: Annotated[str, Meta(description="The id of the request that it came with.")]
    topic: Annotated[str | None, Meta(description="Its topic, where it could be read.")]
    event_id: Annotated[str | None, Meta(description="Its id, where it could be read.")]
    errors: list[Fault]
    format: Literal["event", "cloudevents"]
    body: Annotated[msgspec.Raw | UnsetType, Meta(description="The event as it was sent.")] = UNSET
    body_base64: Annotated[
        Base64 | UnsetType,
        Meta(description="The same, where that is no JSON that every reader takes."),
    ] = UNSET
    damaged: Annotated[
        str | UnsetType, Meta(description="Why it is not what was kept, and is not released.")
    ] = UNSET


class QuarantinePage(Answer, kw_only=True):
    """Some of what is in quarantine."""

    quarantined: list[Quarantined]
    next: Next


class Dropped(Answer, kw_only=True):
    """How many events were removed from quarantine."""

    dropped: Annotated[Count, Meta(description="How many.")]
    next: Next


@dataclass(frozen=True)
class QuarantineHandlers:
    """Answers `/quarantine` and what is below it.

    Whatever changes something goes through the queue as a submission, so that an event is stored
    and leaves quarantine in one transaction.
    """

    receiver: Receiver
    intake: Intake
    limiter: ReadLimiter
    budget: Budget
    sender: Sender
    clients: Clients

    async def entries(self, request: web.Request) -> web.StreamResponse:
        """A page of what is in quarantine."""
        wanted = parse(QuarantineQuerySchema(), request.query)
        async with self._reader(request) as reader:  # also while the answer is made: it is bounded
            page = _permitted(await reader.quarantined(wanted), access_of(request))
            answer = await asyncio.to_thread(_page_response, request, page)
        return await self.sender.send(request, answer)

    async def entry(self, request: web.Request) -> web.StreamResponse:
        """One event in quarantine."""
        async with self._reader(request) as reader:
            found = await _one(reader, request)
            answer = await asyncio.to_thread(_entry_response, request, found)
        return await self.sender.send(request, answer)

    async def release_some(self, request: web.Request) -> web.StreamResponse:
        """Receive anew a page of what is in quarantine."""
        answer = await self._release(request, await self._selected(request, self._most))
        return await self.sender.send(request, answer)

    async def release_one(self, request: web.Request) -> web.StreamResponse:
        """Receive one event anew."""
        async with self._reader(request) as reader:
            found = await _one(reader, request)
        answer = await self._release(request, store.QuarantinePage([found], None))
        return await self.sender.send(request, answer)

    async def drop_some(self, request: web.Request) -> web.StreamResponse:
        """Remove a page of what is in quarantine, for good."""
        page = await self._selected(request, LARGEST_PAGE)
        await self._drop(request, page.entries)
        return json_response(Dropped(dropped=len(page.entries), next=next_after(page.next)))

    async def drop_one(self, request: web.Request) -> web.StreamResponse:
        """Remove one event, for good."""
        async with self._reader(request) as reader:
            found = await _one(reader, request)
        await self._drop(request, [found])
        return web.Response(status=204)

    async def _selected(self, request: web.Request, most: int) -> store.QuarantinePage:
        if not request.query:
            raise Unparsable("Say which ones: by topic, reason, submission, or after=0 for all.")
        wanted: QuarantineQuery = parse(QuarantineQuerySchema(), request.query)
        async with self._reader(request) as reader:
            page = await reader.quarantined(replace(wanted, limit=min(wanted.limit, most)))
        return _permitted(page, access_of(request))

    @property
    def _most(self) -> int:
        """Events that one submission may have."""
        return min(LARGEST_PAGE, self.receiver.decoder.max_events)

    @asynccontextmanager
    async def _reader(self, request: web.Request) -> AsyncIterator[store.KeepsQuarantine]:
        async with self.limiter.acquire(request) as reader:
            assert isinstance(reader, store.KeepsQuarantine)
            yield reader

    async def _release(self, request: web.Request, page: store.QuarantinePage) -> web.Response:
        self.intake.check_ready()
        context = RequestContext(new_submission_id(), timestamp.now())
        client = self.clients.of(request)
        with self.budget.reserve(client) as reservation:
            events = await self.receiver.receive_anew(page.entries, context, reservation)
            ids = [entry.id for entry in page.entries]
            receive = partial(self._receive, client)
            settled = await asyncio.gather(*map(receive, events, page.entries))
        released = Submission(context.submission, settled, released=ids)
        return released_response(released, access_of(request), next_after(page.next))

    async def _receive(self, client: str, event: Event, entry: store.Quarantined) -> Event:
        """The event, settled; by itself, so that one on which a stage fails keeps no other back."""
        if entry.is_damaged:  # nobody has sent what it is now
            event.overrule(Invalid((Fault("", f"Not received: {_DAMAGED}"),)))
            return event
        submission = Submission(new_submission_id(), [event], released=[entry.id])
        try:
            with self.budget.reserve(client) as reservation:
                return (await self.intake.take(submission, reservation)).events[0]
        except StageFault as fault:
            event.overrule(Invalid((Fault("", f"Not received: {fault}"),)))
            return event

    async def _drop(self, request: web.Request, entries: list[store.Quarantined]) -> None:
        self.intake.check_ready()
        submission = Submission(new_submission_id(), [], dropped=[entry.id for entry in entries])
        with self.budget.reserve(self.clients.of(request)) as reservation:
            await self.intake.take(submission, reservation)


def _permitted(page: store.QuarantinePage, access: Access) -> store.QuarantinePage:
    """The page without what is on topics that the token is not for.

    What has no topic that can be read is for those who may see all.
    """
    if access.is_of_all_topics:
        return page
    return store.QuarantinePage(
        [entry for entry in page.entries if access.covers(entry.topic)], page.next
    )


async def _one(reader: store.KeepsQuarantine, request: web.Request) -> store.Quarantined:
    wanted = int(request.match_info["id"])
    page = await reader.quarantined(QuarantineQuery(id=wanted, limit=1))
    page = _permitted(page, access_of(request))
    if not page.entries:
        raise NotFound(f"Nothing is in quarantine under the id {wanted}.")
    return page.entries[0]


def _page_response(request: web.Request, found: store.QuarantinePage) -> web.Response:
    """A page of entries, and where to go on. Slow: call it in a thread."""
    after = next_after(found.next)
    access = access_of(request)
    page = QuarantinePage(quarantined=[_entry(one, access) for one in found.entries], next=after)
    return json_response(page, headers=NO_CACHE | next_link(request, after))


def _entry_response(request: web.Request, found: store.Quarantined) -> web.Response:
    """One entry. Slow: call it in a thread."""
    return json_response(_entry(found, access_of(request)), headers=NO_CACHE)


def _entry(found: store.Quarantined, access: Access) -> Quarantined:
    """As it was sent; what is no JSON that every reader takes is encoded in base64.

    In which places it conflicts with what is stored is told to those who may read that.
    """
    is_told = found.reason is not QuarantineReason.CONFLICT or access.reads(found.topic)
    entry = Quarantined(
        id=found.id,
        kept_at=timestamp.rfc_3339(found.kept_at),
        reason=found.reason,
        submission=found.submission,
        topic=cut(found.topic, LONGEST_NAME) or None,
        event_id=cut(found.event_id, LONGEST_NAME) or None,
        errors=_decode_faults(found.detail) if is_told else [_CONFLICT],
        format="cloudevents" if found.is_cloud_event else "event",
    )
    if strict_json.faults(found.body):
        entry.body_base64 = base64.b64encode(found.body).decode()
    else:
        entry.body = msgspec.Raw(found.body)
    if found.is_damaged:
        entry.damaged = _DAMAGED
    return entry
