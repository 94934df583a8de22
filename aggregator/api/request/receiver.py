"""From a request to its events: reads the body in the format that it claims, and decodes it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import StreamReader, web
from msgspec.structs import replace

from aggregator.api.request import body, cloudevents
from aggregator.api.request.decoder import Decoder, RequestContext
from aggregator.api.request.media_type import Format, format_of
from aggregator.config import Settings
from aggregator.core.budget import Reservation
from aggregator.errors import QueueFull
from aggregator.event import Event
from aggregator.store import Quarantined

_SMALL = 65_536  # bytes; more of them are decoded in a thread, not to hold up the event loop
# An array of up to so many bytes is decoded in the loop all the same where no event of it is in
# doubt: that is quick, unless there are so many brackets that may be nested.
_QUICK = 4 * _SMALL
_BRACKETS = 5_000
_LOOK_AGAIN = 0.02  # seconds

T = TypeVar("T")


@dataclass(frozen=True)
class Receiver:
    """Receives the bodies of publish requests."""

    decoder: Decoder
    settings: Settings
    _arriving: set[StreamReader] = field(default_factory=set)
    """The bodies that are being read."""

    async def receive(
        self, request: web.Request, context: RequestContext, reservation: Reservation
    ) -> list[Event]:
        """The events of the request; the bytes that were read are held in `reservation`.

        Raises RequestError, or QueueFull where too much is under way.
        """
        format_ = format_of(request)
        read = body.at_once(request, reservation, self.settings.max_body)
        if read is None:
            self._arriving.add(request.content)
            try:
                return await self._receive_in_pieces(format_, request, context, reservation)
            finally:
                self._arriving.discard(request.content)
        if len(read) <= _SMALL:
            return self._decode(format_, request, read, context)
        return await self._decoded(format_, request, read, context)

    async def finish(self, seconds: float) -> None:
        """Let bodies arrive for so long, then have the other requests refused with 503.

        Once aiohttp closes its connections it drops what comes, and waits for who waits for it.
        """
        clock = asyncio.get_running_loop()
        due = clock.time() + seconds
        while self._arriving and clock.time() < due:  # noqa: ASYNC110, at a stop, for a second
            await asyncio.sleep(_LOOK_AGAIN)
        for arriving in self._arriving:
            arriving.set_exception(QueueFull("The service is stopping. Try again."))

    async def _receive_in_pieces(
        self,
        format_: Format,
        request: web.Request,
        context: RequestContext,
        reservation: Reservation,
    ) -> list[Event]:
        """The same where the body is still arriving, or compressed."""
        limits = self.settings.max_body, self.settings.body_timeout
        async with aclosing(body.pieces(request, reservation, *limits)) as pieces:
            if format_ is Format.NDJSON:
                return await self._lines(pieces, context)
            read = b"".join([piece async for piece in pieces])
        return await self._decoded(format_, request, read, context)

    async def receive_anew(
        self, kept: Sequence[Quarantined], context: RequestContext, reservation: Reservation
    ) -> list[Event]:
        """The events that are in quarantine, as if they came now. Raises QueueFull."""
        size = sum(len(entry.body) for entry in kept)
        reservation.take(size)
        return await _aside(size, self._decode_anew, kept, context)

    async def _lines(self, pieces: AsyncIterator[bytes], context: RequestContext) -> list[Event]:
        ndjson = self.decoder.ndjson(context)
        waiting: list[bytes] = []
        size = 0
        async for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size > _SMALL:
                await _aside(size, ndjson.feed, b"".join(waiting))
                waiting.clear()
                size = 0
        ndjson.feed(b"".join(waiting))
        return ndjson.finish()

    async def _decoded(
        self, format_: Format, request: web.Request, read: bytes, context: RequestContext
    ) -> list[Event]:
        is_worth_a_try = (
            format_ is Format.JSON
            and _SMALL < len(read) <= _QUICK
            and read.count(b"[") + read.count(b"{") < _BRACKETS
        )
        if is_worth_a_try and (events := self.decoder.short_array(read, context)):
            return events
        return await _aside(len(read), self._decode, format_, request, read, context)

    def _decode(
        self, format_: Format, request: web.Request, read: bytes, context: RequestContext
    ) -> list[Event]:
        if format_ is Format.JSON:
            return self.decoder.json(read, context)
        match format_:
            case Format.NDJSON:
                ndjson = self.decoder.ndjson(context)
                ndjson.feed(read)
                return ndjson.finish()
            case Format.CLOUD_BINARY:
                return self.decoder.cloud_event(
                    cloudevents.from_binary_mode(request, read), context
                )
            case Format.CLOUD_EVENT:
                return self.decoder.cloud_event(read, context)
        return self.decoder.cloud_batch(read, context)

    def _decode_anew(self, kept: Sequence[Quarantined], context: RequestContext) -> list[Event]:
        return [
            self.decoder.again(
                entry.body, index, replace(context, headers=entry.headers), entry.is_cloud_event
            )
            for index, entry in enumerate(kept)
        ]


async def _aside(size: int, decode: Callable[..., T], *arguments: Any) -> T:
    """Decode, in a thread if it is much."""
    return decode(*arguments) if size <= _SMALL else await asyncio.to_thread(decode, *arguments)
