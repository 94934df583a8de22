"""`/quarantine`: what was not stored and is kept beside, to be read, released or dropped."""

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web
from marshmallow import Schema, fields, post_load, validate
from msgspec.structs import replace

from aggregator.api.publish import settled_response
from aggregator.api.query import LARGEST, LARGEST_PAGE, Timestamp, WholeNumber, described, parse
from aggregator.api.responses import NO_CACHE, json_response, next_after, next_link
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.core import timestamp
from aggregator.core.budget import ByteBudget
from aggregator.errors import NotFound, StageFault, Unparsable
from aggregator.event import Event, Submission
from aggregator.outcome import Fault, Invalid
from aggregator.pipeline.intake import Intake, new_submission_id
from aggregator.receiving import strict_json
from aggregator.receiving.decode import Arrival
from aggregator.receiving.receiver import Receiver
from aggregator.store import Quarantined, QuarantinePage, QuarantineQuery, QuarantineReason

_ONE = r"/quarantine/{id:[0-9]{1,18}}"


class QuarantineQuerySchema(Schema):
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


@dataclass(frozen=True)
class QuarantineHandlers:
    """Answers `/quarantine` and what is below it.

    Whatever changes something goes through the queue as a submission, so that an event is stored
    and leaves quarantine in one transaction.
    """

    receiver: Receiver
    intake: Intake
    limiter: ReadLimiter
    budget: ByteBudget
    sender: Sender

    def routes(self) -> list[web.RouteDef]:
        """The routes of these handlers."""
        return [
            web.get("/quarantine", self.entries),
            web.delete("/quarantine", self.drop_some),
            web.post("/quarantine/release", self.release_some),
            web.get(_ONE, self.entry),
            web.delete(_ONE, self.drop_one),
            web.post(f"{_ONE}/release", self.release_one),
        ]

    async def entries(self, request: web.Request) -> web.StreamResponse:
        """A page of what is in quarantine."""
        page = await self._read(parse(QuarantineQuerySchema(), request.query))
        answer = await asyncio.to_thread(_page_response, request, page)
        return await self.sender.send(request, answer)

    async def entry(self, request: web.Request) -> web.StreamResponse:
        """One event in quarantine."""
        answer = await asyncio.to_thread(_entry_response, await self._one(request))
        return await self.sender.send(request, answer)

    async def release_some(self, request: web.Request) -> web.StreamResponse:
        """Receive anew a page of what is in quarantine."""
        return await self._release(request, await self._selected(request, self._most))

    async def release_one(self, request: web.Request) -> web.StreamResponse:
        """Receive one event anew."""
        return await self._release(request, QuarantinePage([await self._one(request)], None))

    async def drop_some(self, request: web.Request) -> web.StreamResponse:
        """Remove a page of what is in quarantine, for good."""
        page = await self._selected(request, LARGEST_PAGE)
        await self._drop(page.entries)
        return json_response({"dropped": len(page.entries), "next": next_after(page.next)})

    async def drop_one(self, request: web.Request) -> web.StreamResponse:
        """Remove one event, for good."""
        await self._drop([await self._one(request)])
        return web.Response(status=204)

    async def _one(self, request: web.Request) -> Quarantined:
        wanted = int(request.match_info["id"])
        page = await self._read(QuarantineQuery(id=wanted, limit=1))
        if not page.entries:
            raise NotFound(f"Nothing is in quarantine under the id {wanted}.")
        return page.entries[0]

    async def _selected(self, request: web.Request, most: int) -> QuarantinePage:
        if not request.query:
            raise Unparsable("Say which ones: by topic, reason, submission, or after=0 for all.")
        wanted: QuarantineQuery = parse(QuarantineQuerySchema(), request.query)
        return await self._read(replace(wanted, limit=min(wanted.limit, most)))

    @property
    def _most(self) -> int:
        """Events that one submission may have."""
        return min(LARGEST_PAGE, self.receiver.decoder.max_events)

    async def _read(self, wanted: QuarantineQuery) -> QuarantinePage:
        async with self.limiter.acquire() as store:
            return await store.quarantined(wanted)

    async def _release(self, request: web.Request, page: QuarantinePage) -> web.StreamResponse:
        self.intake.check_ready()
        arrival = Arrival(new_submission_id(), timestamp.now())
        with self.budget.reserve() as reservation:
            events = await self.receiver.receive_anew(page.entries, arrival, reservation)
            ids = [entry.id for entry in page.entries]
            settled = await asyncio.gather(*map(self._receive, events, ids))
        released = Submission(arrival.submission, settled, released=ids)
        answer = settled_response(released, members={"next": next_after(page.next)})
        return await self.sender.send(request, answer)

    async def _receive(self, event: Event, entry: int) -> Event:
        """The event, settled; by itself, so that one on which a stage fails keeps no other back."""
        submission = Submission(new_submission_id(), [event], released=[entry])
        try:
            with self.budget.reserve() as reservation:
                return (await self.intake.take(submission, reservation)).events[0]
        except StageFault as fault:
            event.overrule(Invalid((Fault("", f"Not received: {fault}"),)))
            return event

    async def _drop(self, entries: list[Quarantined]) -> None:
        self.intake.check_ready()
        submission = Submission(new_submission_id(), [], dropped=[entry.id for entry in entries])
        with self.budget.reserve() as reservation:
            await self.intake.take(submission, reservation)


def _page_response(request: web.Request, found: QuarantinePage) -> web.Response:
    """A page of entries, and where to go on. Slow: call it in a thread."""
    after = next_after(found.next)
    page = {"quarantined": [_entry(one) for one in found.entries], "next": after}
    return json_response(page, headers=NO_CACHE | next_link(request, after))


def _entry_response(found: Quarantined) -> web.Response:
    """One entry. Slow: call it in a thread."""
    return json_response(_entry(found), headers=NO_CACHE)


def _entry(found: Quarantined) -> dict[str, Any]:
    """As it was sent; what is no JSON that every reader takes is encoded in base64."""
    entry: dict[str, Any] = {
        "id": found.id,
        "kept_at": timestamp.rfc_3339(found.kept_at),
        "reason": found.reason.value,
        "submission": found.submission,
        "topic": found.topic or None,
        "event_id": found.event_id or None,
        "errors": msgspec.Raw(found.detail),
        "format": "cloudevents" if found.is_cloud_event else "event",
    }
    if strict_json.faults(found.body):
        return {**entry, "body_base64": base64.b64encode(found.body).decode()}
    return {**entry, "body": msgspec.Raw(found.body)}
