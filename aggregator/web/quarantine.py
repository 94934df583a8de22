"""`/quarantine`: what was not stored and is kept beside, to be read, released or dropped."""

import asyncio
from dataclasses import dataclass

from aiohttp import web
from msgspec.structs import replace

from aggregator.api.request.decoder import RequestContext
from aggregator.api.request.receiver import Receiver
from aggregator.core import timestamp
from aggregator.core.budget import ByteBudget
from aggregator.errors import NotFound, StageFault, Unparsable
from aggregator.event import Event, Submission
from aggregator.outcome import Fault, Invalid
from aggregator.pipeline.intake import Intake, new_submission_id
from aggregator.store import Quarantined, QuarantinePage, QuarantineQuery
from aggregator.web import quarantine_page, verdict
from aggregator.web.answer import as_json, cursor
from aggregator.web.arguments import LARGEST_PAGE
from aggregator.web.sending import Sender
from aggregator.web.turn import Turn

_ONE = r"/quarantine/{id:[0-9]{1,18}}"


@dataclass(frozen=True)
class Quarantine:
    """The handlers, and what they need.

    Whatever changes something goes through the queue as a submission, so that an event is stored
    and leaves quarantine in one transaction.
    """

    receiver: Receiver
    intake: Intake
    turn: Turn
    budget: ByteBudget
    sender: Sender

    def routes(self) -> list[web.RouteDef]:
        """Every call that is answered here."""
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
        page = await self._page(quarantine_page.parse(request.query))
        shown = await asyncio.to_thread(quarantine_page.page, page, request)
        return await self.sender.send(request, shown)

    async def entry(self, request: web.Request) -> web.StreamResponse:
        """One event in quarantine."""
        shown = await asyncio.to_thread(quarantine_page.entry, await self._one(request))
        return await self.sender.send(request, shown)

    async def release_some(self, request: web.Request) -> web.StreamResponse:
        """Receive anew a page of what is in quarantine."""
        return await self._release(request, await self._chosen(request, self._most))

    async def release_one(self, request: web.Request) -> web.StreamResponse:
        """Receive one event anew."""
        return await self._release(request, QuarantinePage([await self._one(request)], None))

    async def drop_some(self, request: web.Request) -> web.StreamResponse:
        """Remove a page of what is in quarantine, for good."""
        page = await self._chosen(request, LARGEST_PAGE)
        await self._drop(page.entries)
        return as_json({"dropped": len(page.entries), "next": cursor(page.next)})

    async def drop_one(self, request: web.Request) -> web.StreamResponse:
        """Remove one event, for good."""
        await self._drop([await self._one(request)])
        return web.Response(status=204)

    async def _one(self, request: web.Request) -> Quarantined:
        wanted = int(request.match_info["id"])
        page = await self._page(QuarantineQuery(id=wanted, limit=1))
        if not page.entries:
            raise NotFound(f"Nothing is in quarantine under the id {wanted}.")
        return page.entries[0]

    async def _chosen(self, request: web.Request, most: int) -> QuarantinePage:
        if not request.query:
            raise Unparsable("Say which ones: by topic, reason, submission, or after=0 for all.")
        wanted = quarantine_page.parse(request.query)
        return await self._page(replace(wanted, limit=min(wanted.limit, most)))

    @property
    def _most(self) -> int:
        """Events that one submission may have."""
        return min(LARGEST_PAGE, self.receiver.decoder.max_events)

    async def _page(self, wanted: QuarantineQuery) -> QuarantinePage:
        async with self.turn.taken() as store:
            return await store.quarantined(wanted)

    async def _release(self, request: web.Request, page: QuarantinePage) -> web.StreamResponse:
        self.intake.check_ready()
        context = RequestContext(new_submission_id(), timestamp.now())
        with self.budget.reserve() as reservation:
            events = await self.receiver.receive_anew(page.entries, context, reservation)
            ids = [entry.id for entry in page.entries]
            settled = await asyncio.gather(*map(self._receive, events, ids))
        answered = Submission(context.submission, settled, released=ids)
        told = verdict.of(answered, members={"next": cursor(page.next)})
        return await self.sender.send(request, told)

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
