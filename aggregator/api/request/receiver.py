"""From a request to its events: reads the body in the format that it claims, and decodes it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from aiohttp import StreamReader, web
from msgspec.structs import replace

from aggregator.api.request import body, cloudevents, splitting
from aggregator.api.request.decoder import NO_LINE, Decoder, RequestContext
from aggregator.api.request.media_type import Format, format_of
from aggregator.api.request.splitting import Piece
from aggregator.api.request.strict_json import FIRST
from aggregator.config import Settings
from aggregator.core.budget import Reservation
from aggregator.errors import QueueFull
from aggregator.event import Event
from aggregator.store import Quarantined

# More bytes are decoded in a thread, not to hold up the event loop, and in slices of so many and an
# event: no C function then keeps it for long, and who has much to decode waits in turn.
_SMALL = 65_536
# An array of up to so many bytes is decoded in the loop all the same where no event of it is in
# doubt: that is quick, unless there are so many brackets that may be nested.
_IN_THE_LOOP = 4 * _SMALL
_BRACKETS = 5_000
# Bytes of memory that are needed for each byte, at most: to tell the elements of an array apart, to
# decode events of which none is in doubt, and to look at each of them.
_SPLITTING = 1
_QUICK = 6
_CAREFUL = 28
# Bytes of memory that an event takes beside its own, until it is answered: its members, key, digest
# and verdict are objects, which take six times what the smallest event has.
_EVENT = 640
_LOOK_AGAIN = 0.02  # seconds

T = TypeVar("T")


@dataclass(frozen=True)
class Receiver:
    """Receives the bodies of publish requests."""

    decoder: Decoder
    settings: Settings
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Of those who decode in a thread: two would only take the time of everybody else."""
    _arriving: set[StreamReader] = field(default_factory=set)
    """The bodies that are being read."""

    async def receive(
        self, request: web.Request, context: RequestContext, reservation: Reservation
    ) -> list[Event]:
        """The events of the request; what they take is held in `reservation`.

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
            events = self._decode(format_, request, read, context)
            _charge(reservation, len(events))
            return events
        whole = [read]
        del read
        return await self._decoded(format_, request, whole, context, reservation)

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
        async with aclosing(body.pieces(request, reservation, self.settings)) as pieces:
            if format_ is Format.NDJSON:
                return await self._lines(pieces, context, reservation)
            whole = [b"".join([piece async for piece in pieces])]
        return await self._decoded(format_, request, whole, context, reservation)

    async def receive_anew(
        self, kept: Sequence[Quarantined], context: RequestContext, reservation: Reservation
    ) -> list[Event]:
        """The events that are in quarantine, as if they came now. Raises QueueFull."""
        reservation.take(sum(len(entry.body) for entry in kept))
        _charge(reservation, len(kept))
        events: list[Event] = []
        for some, size in _slices(list(kept), lambda entry: len(entry.body)):
            events += await self._aside(
                reservation, size, _CAREFUL, self._decode_anew, some, len(events), context
            )
        return events

    async def _lines(
        self, pieces: AsyncIterator[bytes], context: RequestContext, reservation: Reservation
    ) -> list[Event]:
        """The events of lines, decoded while the body arrives.

        So the memory never holds both the body and its events.
        """
        lines = splitting.Lines(self.decoder.max_event)
        events: list[Event] = []
        waiting: list[Piece] = []
        async for piece in pieces:
            for start in range(0, len(piece), _SMALL):
                waiting += lines.feed(piece[start : start + _SMALL])
                self.decoder.check_count(len(events) + len(waiting))
            if sum(map(_length, waiting)) > _SMALL:
                events += await self._events(waiting, len(events), context, reservation)
                waiting = []
        waiting += lines.finish()
        events += await self._events(waiting, len(events), context, reservation)
        if not events:
            raise NO_LINE
        return events

    async def _events(
        self,
        pieces: list[Piece],
        first: int,
        context: RequestContext,
        reservation: Reservation,
        *,
        are_cloud_events: bool = False,
    ) -> list[Event]:
        """The events of lines or elements, which are taken out of the list slice by slice."""
        decoder = self.decoder
        decoder.check_count(first + len(pieces))
        _charge(reservation, len(pieces))  # before they are decoded, several bodies in turn
        events: list[Event] = []
        for some, size in _slices(pieces, _length):
            place = first + len(events)
            decoded: list[Event] = []
            if not are_cloud_events:
                decoded = await self._aside(
                    reservation, size, _QUICK, decoder.together, some, place, context
                )
            if not decoded:
                each = decoder.cloud_events if are_cloud_events else decoder.each
                decoded = await self._aside(reservation, size, _CAREFUL, each, some, place, context)
            events += decoded
        return events

    async def _decoded(
        self,
        format_: Format,
        request: web.Request,
        whole: list[bytes],
        context: RequestContext,
        reservation: Reservation,
    ) -> list[Event]:
        """The events of a body that has arrived, decoded in slices.

        It is taken out of the list, so that it is freed once its elements are told apart.
        """
        read = whole.pop()
        if format_ is Format.NDJSON:
            return await self._lines(_cut(read), context, reservation)
        is_batch = format_ is Format.CLOUD_BATCH
        if not is_batch and not (format_ is Format.JSON and splitting.is_array(read)):
            return await self._one(format_, request, read, context, reservation)
        is_worth_a_try = (
            len(read) <= _IN_THE_LOOP and read.count(b"[") + read.count(b"{") < _BRACKETS
        )
        at_once = self.decoder.short_batch if is_batch else self.decoder.short_array
        if is_worth_a_try and (events := at_once(read, context)):
            _charge(reservation, len(events))
            return events
        split = partial(self.decoder.elements, is_batch=is_batch)
        elements = await self._aside(reservation, len(read), _SPLITTING, split, read)
        del read
        return await self._events(elements, 0, context, reservation, are_cloud_events=is_batch)

    async def _one(
        self,
        format_: Format,
        request: web.Request,
        read: bytes,
        context: RequestContext,
        reservation: Reservation,
    ) -> list[Event]:
        """The one event of a large body."""
        size, factor = len(read), _CAREFUL
        if size > self.decoder.max_event:
            factor = 0  # it is refused, or has many blanks around it
        elif format_ is Format.JSON:
            alone = [(read, FIRST)]
            together = self.decoder.together
            if found := await self._aside(reservation, size, _QUICK, together, alone, 0, context):
                return found
        decode = self._decode
        return await self._aside(reservation, size, factor, decode, format_, request, read, context)

    def _decode(
        self, format_: Format, request: web.Request, read: bytes, context: RequestContext
    ) -> list[Event]:
        if format_ is Format.JSON:
            return self.decoder.json(read, context)
        match format_:
            case Format.NDJSON:
                return self.decoder.ndjson(read, context)
            case Format.CLOUD_BINARY:
                self.decoder.check_length(read)
                return self.decoder.cloud_event(
                    cloudevents.from_binary_mode(request, read), context
                )
            case Format.CLOUD_EVENT:
                return self.decoder.cloud_event(read, context)
        return self.decoder.cloud_batch(read, context)

    def _decode_anew(
        self, kept: Sequence[Quarantined], first: int, context: RequestContext
    ) -> list[Event]:
        return [
            self.decoder.again(
                entry.body, index, replace(context, headers=entry.headers), entry.is_cloud_event
            )
            for index, entry in enumerate(kept, first)
        ]

    async def _aside(
        self,
        reservation: Reservation,
        size: int,
        factor: int,
        decode: Callable[..., T],
        *arguments: Any,
    ) -> T:
        """Decode; what is large in a thread, in turn, while the memory that it takes is held.

        Raises QueueFull where there is no room for that.
        """
        if size <= _SMALL:
            return decode(*arguments)
        async with self._turn:
            with reservation.room_for(size * factor):
                return await asyncio.to_thread(decode, *arguments)


def _charge(reservation: Reservation, events: int) -> None:
    """Hold what so many events take beside their bytes. Raises QueueFull."""
    reservation.take(_EVENT * events)


def _length(piece: Piece) -> int:
    return len(piece[0])


def _slices(items: list[T], size: Callable[[T], int]) -> Iterator[tuple[Sequence[T], int]]:
    """So many items at a time that they are more than _SMALL, or that one is; with their size.

    They are taken out of the list: what is decoded is not to be held as well.
    """
    while items:
        count = held = 0
        while held <= _SMALL and count < len(items):
            held += size(items[count])
            count += 1
        some = items[:count]
        del items[:count]
        yield some, held


async def _cut(read: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(read), _SMALL):
        yield read[start : start + _SMALL]
