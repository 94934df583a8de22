"""From a request to its events: reads the body in the format that it claims, and decodes it."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from aggregator import body
from aggregator.budget import Share
from aggregator.decode import Arrival, Decoder
from aggregator.event import Event
from aggregator.settings import Settings

_SMALL = 65_536  # bytes; decoding more of them in the loop would hold up everybody else


@dataclass(frozen=True)
class Receiver:
    """Receives the bodies of publish requests."""

    decoder: Decoder
    settings: Settings

    async def receive(self, request: web.Request, arrival: Arrival, share: Share) -> list[Event]:
        """The events of the request; what it takes of the memory is held in the share.

        Raises RequestError, or QueueFull where too much is under way.
        """
        is_ndjson = body.is_ndjson(request)
        decode = self.decoder.ndjson if is_ndjson else self.decoder.json
        read = await body.read(request, share, self.settings.max_body, self.settings.body_timeout)
        if len(read) <= _SMALL:
            return decode(read, arrival)
        return await asyncio.to_thread(decode, read, arrival)
