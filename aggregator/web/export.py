"""Sends all events that match, one a line, page by page in constant memory."""

import logging
from dataclasses import dataclass

import msgspec
from aiohttp import web

from aggregator.errors import QueueFull, StoreError
from aggregator.store import Page, Query
from aggregator.web import shown
from aggregator.web.arguments import load
from aggregator.web.query import ExportSchema
from aggregator.web.sending import Sender
from aggregator.web.turn import Turn

log = logging.getLogger(__name__)

_HEADERS = {"Vary": "Accept", "Cache-Control": "no-cache"}
_FIRST_PAGE = 100  # events
_LONGEST_PAGE = 1000
_PAGE_BYTES = 1_048_576  # that a page should come to, so that slow readers hold little each


class Walk:
    """The way from page to page, up to the newest event there was at its beginning."""

    def __init__(self, wanted: Query, newest: int) -> None:
        self._wanted = wanted
        self._newest = newest
        self._left = wanted.limit
        self._most = _FIRST_PAGE
        self._after = wanted.after
        if wanted.descending:
            first = newest + 1
            self._after = first if wanted.after is None else min(wanted.after, first)
        self.is_over = False

    @property
    def query(self) -> Query:
        """What to read next."""
        limit = min(self._left, self._most)
        return msgspec.structs.replace(self._wanted, after=self._after, limit=limit)

    def pass_by(self, page: Page) -> bytes:
        """The lines of that page; go on to the next one."""
        events = [event for event in page.events if event.seq <= self._newest]
        self._left -= len(events)
        self._after = page.next
        is_past = not self._wanted.descending and (page.next or 0) >= self._newest
        self.is_over = page.next is None or is_past or not self._left
        size = sum(len(event.payload or b"") for event in events)
        fitting = _PAGE_BYTES * len(events) // (size or 1)
        self._most = max(1, min(fitting or self._most, 2 * self._most, _LONGEST_PAGE))
        return b"".join(shown.as_line(event) + b"\n" for event in events)


@dataclass(frozen=True)
class Export:
    """Sends what was stored when the request came, while further events are stored."""

    turn: Turn
    sender: Sender

    async def send(self, request: web.Request, form: str) -> web.StreamResponse:
        """The whole answer. One that cannot be finished is cut off, so that it is seen."""
        wanted = load(ExportSchema(), request.query)
        async with self.turn.taken() as store:
            walk = Walk(wanted, (await store.span()).newest)
            lines = walk.pass_by(await store.events(walk.query))
        answer = web.StreamResponse(headers={"Content-Type": form, **_HEADERS})
        if request.method == "HEAD":
            return answer
        try:
            async with self.sender.stream(request, answer) as outlet:
                await outlet.write(lines)
                while not walk.is_over:
                    await outlet.write(walk.pass_by(await self._page(walk.query)))
        except (TimeoutError, ConnectionError):
            log.info("an export to %s was not read to its end", request.remote)
        except StoreError as error:
            log.error("an export to %s was cut off: %s", request.remote, error)
        return answer

    async def _page(self, wanted: Query) -> Page:
        """The page, once there is room for it. Raises TimeoutError if that takes too long."""
        while True:
            await self.sender.room()
            try:
                async with self.sender.limit_to_the_end(), self.turn.taken() as store:
                    return await store.events(wanted)
            except QueueFull:  # others were quicker
                continue
