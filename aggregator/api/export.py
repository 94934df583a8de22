"""Sends all events that match, one a line, page by page in constant memory."""

import logging
from dataclasses import dataclass

import msgspec
from aiohttp import web

from aggregator.access import Access, access_of
from aggregator.api.permitted import check_query, permitted
from aggregator.api.query import ExportSchema, parse
from aggregator.api.sending import ReadLimiter, Sender
from aggregator.api.stored_event import render_line
from aggregator.core.fault_log import Seldom
from aggregator.errors import InvalidToken, QueueFull, StoreError
from aggregator.store import Page, Query

log = logging.getLogger(__name__)

_seldom = Seldom()
"""Anybody can leave as often as they like."""

_HEADERS = {"Vary": "Accept", "Cache-Control": "no-cache"}
_FIRST_PAGE = 100  # events
_LONGEST_PAGE = 1000
_PAGE_BYTES = 1_048_576  # that a page should come to, so that slow readers hold little each


class Cursor:
    """Goes from page to page, up to the newest event there was at the beginning.

    Events that the reader may not read are passed over.
    """

    def __init__(self, wanted: Query, newest: int, access: Access) -> None:
        self._wanted = wanted
        self._access = access
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

    def render(self, page: Page) -> bytes:
        """Render that page as lines, and go on to the next one."""
        permitted_events = permitted(page, self._access).events
        events = [event for event in permitted_events if event.seq <= self._newest]
        self._left -= len(events)
        self._after = page.next
        is_past = not self._wanted.descending and (page.next or 0) >= self._newest
        self.is_over = page.next is None or is_past or not self._left
        size = sum(len(event.payload or b"") for event in events)
        fitting = _PAGE_BYTES * len(events) // (size or 1)
        self._most = max(1, min(fitting or self._most, 2 * self._most, _LONGEST_PAGE))
        return b"".join(render_line(event) + b"\n" for event in events)


@dataclass(frozen=True)
class Exporter:
    """Sends what was stored when the request came, while further events are stored."""

    limiter: ReadLimiter
    sender: Sender

    async def send(self, request: web.Request, media_type: str) -> web.StreamResponse:
        """The whole answer. One that cannot be finished is cut off, so that it is seen."""
        wanted = parse(ExportSchema(), request.query)
        access = access_of(request)
        check_query(wanted, access)
        async with self.limiter.acquire(request) as store:
            cursor = Cursor(wanted, (await store.span()).newest, access)
            lines = cursor.render(await store.events(cursor.query))
        answer = web.StreamResponse(headers={"Content-Type": media_type, **_HEADERS})
        if request.method == "HEAD":
            return answer
        try:
            async with self.sender.stream(request, answer) as writer:
                await writer.write(lines)
                while not cursor.is_over:
                    access.check_current()
                    await writer.write(cursor.render(await self._page(request, cursor.query)))
        except (TimeoutError, ConnectionError):
            client = self.sender.clients.of(request)
            if (more := _seldom.told(client)) is not None:
                log.info("an export to %s was not read to its end%s", client, more)
        except InvalidToken as error:
            log.info("an export to %s was cut off: %s", self.sender.clients.of(request), error)
        except StoreError as error:
            log.error("an export to %s was cut off: %s", request.remote, error)
        return answer

    async def _page(self, request: web.Request, wanted: Query) -> Page:
        """The page, once there is room for it. Raises TimeoutError if that takes too long."""
        while True:
            await self.sender.wait_for_room(request)
            try:
                async with self.sender.limit_to_the_end(), self.limiter.acquire(request) as store:
                    return await store.events(wanted)
            except QueueFull:  # others were quicker
                continue
