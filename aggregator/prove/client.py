"""The service as the prover sees it: over HTTP, and gone at any moment."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

import aiohttp
import msgspec

from aggregator.prove.journal import Answer, Journal, Promise
from aggregator.prove.workload import Request, Sent

_ANSWERED = (200, 207, 409, 422)
_TRY_AGAIN = 503
_SETTLING = 10.0  # seconds
_PAUSE = 0.02  # seconds
_SHOWN = 300  # bytes of an answer
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError)
_SHORT = aiohttp.ClientTimeout(total=60)
_LONG = aiohttp.ClientTimeout(total=None, sock_read=60)  # for all that is stored
_JSON = {"Content-Type": "application/json"}
_NDJSON = {"Accept": "application/x-ndjson"}


class Gone(Exception):
    """No answer: killed meanwhile, or it says itself that it cannot answer now."""


class Stats(msgspec.Struct):
    """The numbers of the service."""

    received_total: int
    unique_processed: int
    duplicate_dropped: int
    conflicts: int
    invalid: int
    filtered: int
    refused: int
    queue_size_current: int


class Topic(msgspec.Struct):
    """The numbers of one topic."""

    topic: str
    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0


class Topics(msgspec.Struct):
    """A page of topics; there are few."""

    topics: list[Topic]


class Read(msgspec.Struct):
    """An event as it is read back."""

    seq: int
    topic: str
    event_id: str
    received_at: str = ""
    timestamp: str | None = None
    source: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class Clash(msgspec.Struct):
    """Another content that came under an event's key, and how often."""

    times: int


class Explained(msgspec.Struct):
    """What came again under the key of an event."""

    duplicates: int
    conflicts: int
    conflicting: list[Clash]


class Client:
    """Calls the service where it is now, and notes every answer to a publish in the ledger."""

    def __init__(self, http: aiohttp.ClientSession, journal: Journal) -> None:
        self._http = http
        self.journal = journal
        self.url = ""

    async def publish(self, request: Request) -> Answer:
        """Send it once. Raises Gone."""
        known = self.journal.acknowledged_in(request)
        headers = _JSON | ({"Prefer": "handling=strict"} if request.is_strict else {})
        try:
            status, body = await self._call("POST", "/publish", request.body, headers)
            answer = self._understood(status, body)
        except Gone:
            self.journal.record_unanswered(request)
            raise
        self.journal.record(request, answer, known)
        return answer

    async def stats(self) -> Stats:
        """The numbers, once nothing is under way. Raises Gone."""
        end = time.monotonic() + _SETTLING
        while True:
            stats = msgspec.json.decode(await self._read("/stats"), type=Stats)
            if not stats.queue_size_current or time.monotonic() > end:
                return stats
            await asyncio.sleep(_PAUSE)

    async def topics(self) -> list[Topic]:
        """The numbers by topic. Raises Gone."""
        return msgspec.json.decode(await self._read("/topics?limit=1000"), type=Topics).topics

    async def explained(self, event: Sent) -> Explained:
        """What is known of an event that is stored. Raises Gone."""
        body = await self._read(f"/events/{event.topic}/{event.event_id}/explain")
        return msgspec.json.decode(body, type=Explained)

    async def is_ready(self) -> bool:
        """Whether it can store. Raises Gone if it says nothing."""
        return (await self._call("GET", "/readyz"))[0] == 200

    async def events(self) -> AsyncIterator[Read]:
        """Everything that is stored, in order. Raises Gone."""
        decoder = msgspec.json.Decoder(Read)
        try:
            async with self._http.get(f"{self.url}/events", headers=_NDJSON, timeout=_LONG) as said:
                said.raise_for_status()
                async for line in said.content:
                    yield decoder.decode(line)
        except _FAILURES as error:
            raise Gone(str(error)) from error

    def _understood(self, status: int, body: bytes) -> Answer:
        if status in _ANSWERED:
            with suppress(msgspec.DecodeError):
                return msgspec.json.decode(body, type=Answer)
        if status != _TRY_AGAIN:
            how = f"a publish was answered {status}, without a result for each event"
            self.journal.breaches.note(Promise.ANSWERED, how, body[:_SHOWN])
        raise Gone(f"answered {status}: {body[:_SHOWN]!r}")

    async def _read(self, path: str) -> bytes:
        status, body = await self._call("GET", path)
        if status != 200:
            raise Gone(f"GET {path}: answered {status}: {body[:_SHOWN]!r}")
        return body

    async def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        try:
            async with self._http.request(
                method, self.url + path, data=body, headers=headers, timeout=_SHORT
            ) as response:
                return response.status, await response.read()
        except _FAILURES as error:
            raise Gone(f"{method} {path}: {error!r}") from error
