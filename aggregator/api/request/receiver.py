"""From a request to its events: reads the body in the format that it claims, and decodes it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from msgspec.structs import replace

from aggregator.api.request import cloudevents
from aggregator.api.request.body import Body
from aggregator.api.request.decoder import Decoder, RequestContext
from aggregator.api.request.media_type import Format, format_of
from aggregator.config import Settings
from aggregator.core.budget import Reservation
from aggregator.event import Event
from aggregator.store import Quarantined

_SMALL = 65_536  # bytes; decoding more of them in the loop would hold up everybody else,
_PLAIN = 4 * _SMALL  # unless that takes no second look,
_BRACKETS = 5_000  # as it does where so many may be nested

T = TypeVar("T")


@dataclass(frozen=True)
class Receiver:
    """Receives the bodies of publish requests."""

    decoder: Decoder
    settings: Settings

    async def receive(
        self, request: web.Request, context: RequestContext, reservation: Reservation
    ) -> list[Event]:
        """The events of the request; what it takes of the memory is held in the share.

        Raises RequestError, or QueueFull where too much is under way.
        """
        format_ = format_of(request)
        body = Body(request, reservation, self.settings.max_body, self.settings.body_timeout)
        if format_ is Format.NDJSON:
            return await self._lines(body, context)
        read = b"".join([piece async for piece in body])
        return await self._decoded(format_, request, read, context)

    async def receive_anew(
        self, kept: Sequence[Quarantined], context: RequestContext, reservation: Reservation
    ) -> list[Event]:
        """The events that are in quarantine, as if they came now. Raises QueueFull."""
        size = sum(len(entry.body) for entry in kept)
        reservation.take(size)
        return await _beside(size, self._decode_anew, kept, context)

    async def _lines(self, body: Body, context: RequestContext) -> list[Event]:
        ndjson = self.decoder.ndjson(context)
        waiting: list[bytes] = []
        size = 0
        async for piece in body:
            waiting.append(piece)
            size += len(piece)
            if size > _SMALL:
                await _beside(size, ndjson.feed, b"".join(waiting))
                waiting.clear()
                size = 0
        ndjson.feed(b"".join(waiting))
        return ndjson.finish()

    async def _decoded(
        self, format_: Format, request: web.Request, read: bytes, context: RequestContext
    ) -> list[Event]:
        is_worth_a_try = (
            format_ is Format.JSON
            and _SMALL < len(read) <= _PLAIN
            and read.count(b"[") + read.count(b"{") < _BRACKETS
        )
        if is_worth_a_try and (events := self.decoder.short_array(read, context)):
            return events
        return await _beside(len(read), self._decode, format_, request, read, context)

    def _decode(
        self, format_: Format, request: web.Request, read: bytes, context: RequestContext
    ) -> list[Event]:
        if format_ is Format.JSON:
            return self.decoder.json(read, context)
        match format_:
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


async def _beside(size: int, decode: Callable[..., T], *arguments: Any) -> T:
    """Decode, beside the event loop if it is much."""
    return decode(*arguments) if size <= _SMALL else await asyncio.to_thread(decode, *arguments)
